"""What the demo shows while it runs: steps, a progress bar, a live line, where to look. Room: cli.

With ``--json`` everything goes to stderr, so that stdout holds the one object. Where nobody watches (no terminal) the
live line is printed every few seconds instead of being redrawn.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from cli.demo_account import Summary
from cli.demo_data import Material
from cli.demo_stack import TrainedModel
from load_tests.account import TrafficReport

_EVERY_S: Final = 5.0  # between live lines without a terminal
_WINDOW: Final = 8  # ticks that a rate is taken over


class Screen:
    """Progress and words of one demo; use as ``with``."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=quiet, highlight=False)
        self._progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._words = Text()
        self._live = Live(Group(self._progress, self._words), console=self._console, refresh_per_second=5)
        self._playing: TaskID | None = None
        self._seen: deque[tuple[float, int, int]] = deque(maxlen=_WINDOW)
        self._said = 0.0

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Print one line above the bars."""
        self._console.print(line, soft_wrap=True)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show a step while it runs, and how long it took."""
        task, began = self._progress.add_task(name, total=None), time.monotonic()
        if not self._console.is_terminal:
            self.say(f"{name} …")
        yield
        self._progress.update(task, total=1, completed=1)
        if not self._console.is_terminal:
            self.say(f"{name}: {time.monotonic() - began:.1f} s")

    def where_to_look(self, url: str, data_dir: Path, material: Material, model: TrainedModel) -> None:
        """Print addresses and commands to try."""
        world = material.world
        item, customer = world.catalogue.item_id(0), world.customers.customer_id(0)
        real = f", {len(material.sessions):,} real sessions of {material.source}" if material.source else ""
        event = f'{{"event": "view_item", "customer_id": "me", "items": [{{"item_id": "{item}"}}]}}'
        self.say(
            f"\nmodel {model.name}/{model.version}: {model.items:,} items, {model.sessions:,} sessions, "
            f"trained in {model.seconds:.0f} s\n"
            f"traffic: simulated shoppers{real}\n\n"
            f"  docs      {url}/docs\n"
            f"  customer  {url}/v1/customers/{customer}\n"
            f"  status    kairos status --data-dir {data_dir}\n"
            f"  event in  curl -s {url}/v1/events -H 'content-type: application/json' -d '{event}'\n"
            f"  slate out curl -s '{url}/v1/recommendations?placement=home&customer_id=me'\n"
        )

    def tick(self, report: TrafficReport, seconds: float | None) -> None:
        """Show the live line."""
        now = time.monotonic()
        self._seen.append((now, report.events_sent, report.answers))
        if self._playing is None:
            self._playing, self._said = self._progress.add_task("playing traffic", total=seconds), now
            return
        elapsed, line = now - report.started, self._line(report)
        self._progress.update(self._playing, completed=min(elapsed, seconds or elapsed))
        self._words.plain = line
        if not self._console.is_terminal and now - self._said > _EVERY_S:
            self._said = now
            self.say(line)

    def _line(self, report: TrafficReport) -> str:
        (then, events, answers), (now, events_now, answers_now) = self._seen[0], self._seen[-1]
        span = max(now - then, 1e-3)
        return (
            f"{(events_now - events) / span:.0f} events/s · freshness p99 {report.freshness_p99_ms:.1f} ms · "
            f"{(answers_now - answers) / span:.0f} answers/s · answer p99 {report.answer_p99_ms:.1f} ms"
        )

    def finish(self, summary: Summary) -> None:
        """Print the account."""
        if self._playing is not None:
            self._progress.update(self._playing, total=1, completed=1)
        self._live.stop()
        under_way = f", {summary.unknown:,} under way" if summary.unknown else ""
        verdict = "exact" if summary.exact else "interrupted" if summary.interrupted else "NOT EXACT"
        self.say(
            f"\n{summary.events_sent:,} events sent = {summary.events_applied:,} applied + {summary.duplicates:,} "
            f"duplicates + {summary.dead_lettered:,} dead-lettered ({summary.expected_dead_letters:,} were broken on "
            f"purpose): {verdict}{under_way}\n"
            f"{summary.customers:,} customers, {summary.answers:,} answers, "
            f"{summary.personalised_share:.0%} personalised, {summary.degraded_share:.2%} degraded\n"
            f"answer p99 {summary.answer_p99_ms:.1f} ms, event to answer p99 {summary.freshness_p99_ms:.1f} ms"
        )
