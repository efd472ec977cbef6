"""`kairos demo`: the whole engine on this machine, with live shop traffic and an exact account. Room: cli.

A stack of its own under its own supervisor, a catalogue, a first model, then simulated shoppers who react to what they
are shown, beside the real sessions of a data set where there is one. Ends by itself with ``--for``, else by Ctrl-C;
either way nothing is left running.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import tempfile
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
import typer

from cli import demo_data, demo_stack
from cli.catalog import Target, send
from cli.data_dir import DataDir, StackFile
from cli.demo_account import Ledger, Summary, read_ledger, summarise, total
from cli.demo_data import Material
from cli.demo_screen import Screen
from cli.demo_sessions import RealTraffic
from cli.settings import Settings, load
from events.errors import SettingsError
from load_tests.account import TrafficReport
from load_tests.http_client import Client
from load_tests.prepare import load_catalogue
from load_tests.traffic import play

_RATE: Final = 200.0  # events a second, real and simulated
_REAL_SHARE: Final = 0.25
_BUDGET: Final = "5s"  # of the first model's training
_FOREVER_S: Final = 1e9
_DRAIN_S: Final = 30.0
_MODEL_S: Final = 20.0


def demo(
    for_: Annotated[
        str | None, typer.Option("--for", help="How long traffic is played: 20s, 5m; else until Ctrl-C.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout at the end.")] = False,
    port: Annotated[int | None, typer.Option(help="Port of the API (8000); 0: any free one.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep state here; else a fresh one, removed at the end.")
    ] = None,
    rate: Annotated[float, typer.Option(min=1, max=5000, help="Events a second.")] = _RATE,
    data: Annotated[str, typer.Option(help="auto, simulator, or the directory of a data set.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of the simulated shop.")] = 0,
) -> None:
    """Run the whole engine on this machine, with live shop traffic."""
    seconds = parse_seconds(for_) if for_ is not None else None
    settings = load(port=port)
    chosen = demo_data.choose(data, settings.data)
    with _workspace(data_dir) as directory:
        run = Demo(settings, directory, chosen, seconds=seconds, rate=rate, seed=seed, screen=Screen(quiet=json))
        summary = asyncio.run(run.run())
    if summary is None:
        typer.echo("kairos: interrupted before the traffic began", err=True)
        return
    if json:
        typer.echo(msgspec.json.encode(summary).decode())
    raise typer.Exit(0 if summary.exact or summary.interrupted else 1)


def parse_seconds(text: str) -> float:
    """Return the seconds of ``20s``, ``5m``, ``1h`` or a plain number.

    Examples
    --------
    >>> parse_seconds("20s"), parse_seconds("1.5m"), parse_seconds("7")
    (20.0, 90.0, 7.0)
    """
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("s", "m", "h") else (text, "s")
    try:
        seconds = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86_400:
        raise SettingsError(f"--for {text}: a time such as 20s, 5m or 1h, from 1s to 24h")
    return seconds


@contextlib.contextmanager
def _workspace(data_dir: Path | None) -> Iterator[Path]:
    """Give a data directory: the caller's, or a fresh one that is removed."""
    if data_dir is not None:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        yield data_dir.resolve()
        return
    fresh = Path(tempfile.mkdtemp(prefix="kairos-demo-"))
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


class _Ready(NamedTuple):
    """Everything is there and traffic may begin."""

    url: str
    stack: StackFile
    material: Material
    model: demo_stack.TrainedModel
    before: Ledger


class Demo:
    """One demonstration."""

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        chosen: Path | None,
        *,
        seconds: float | None,
        rate: float,
        seed: int,
        screen: Screen,
    ) -> None:
        self._settings = settings
        self._dir = DataDir(directory)
        self._chosen = chosen
        self._seconds = seconds
        self._rate = rate
        self._seed = seed
        self._screen = screen
        self._began = time.monotonic()
        self._stop = asyncio.Event()

    async def run(self) -> Summary | None:
        """Run it; return None if it was interrupted before the traffic."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        options = ("--port", str(self._settings.port), "--data-dir", str(self._dir.path))
        with self._screen:
            async with demo_stack.running(options, self._screen.say) as up:
                ready = await self._or_interrupted(self._prepare(up))
                if ready is None:
                    return None
                self._screen.where_to_look(ready.url, self._dir.path, ready.material, ready.model)
                return await self._play(ready)

    async def _or_interrupted(self, wanted: Coroutine[None, None, _Ready]) -> _Ready | None:
        """Return what is wanted, None if the stop comes first."""
        task, stopped = asyncio.create_task(wanted), asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            stopped.cancel()
            await asyncio.gather(task, stopped, return_exceptions=True)

    async def _prepare(self, up: demo_stack.UpProcess) -> _Ready:
        """Make the past while the stack starts, load the catalogue while the model trains."""
        screen = self._screen
        making = asyncio.create_task(
            asyncio.to_thread(demo_data.prepare, self._chosen, self._dir.path, seed=self._seed)
        )
        with screen.step("starting the stack"):
            url = await up.ready
        with screen.step("making the shop's past"):
            material = await making
        training = asyncio.create_task(demo_stack.train(material.tables, self._dir.path, budget=_BUDGET))
        try:
            with screen.step("loading the catalogue"):
                await self._load_catalogue(url, material)
            with screen.step("training the first model"):
                model = await training
        finally:
            training.cancel()
            await asyncio.gather(training, return_exceptions=True)
        with screen.step("waiting for the model to be served"):
            await _until_served(url, f"{model.name}/{model.version}")
        stack = self._dir.running()
        if stack is None:
            raise demo_stack.DemoError("the stack ended before the traffic began")
        return _Ready(url, stack, material, model, await asyncio.to_thread(read_ledger, stack, drain_s=_DRAIN_S))

    async def _load_catalogue(self, url: str, material: Material) -> None:
        key = self._settings.secret_key.get_secret_value() if self._settings.secret_key else self._dir.secret_key()
        await load_catalogue(url, material.world.catalogue, key=key)
        loaded = await send(Target(url, key), material.items)
        if loaded.rejected:
            raise demo_stack.DemoError(f"{loaded.rejected} items were refused: {loaded.problems[0]}")

    async def _play(self, ready: _Ready) -> Summary:
        """Play until the time is over or the stop comes; then settle the account."""
        traffic = _Traffic(ready, self._rate, self._seconds, self._seed, self._screen, self._began)
        await traffic.play(self._stop)
        report = traffic.report
        ledger = await asyncio.to_thread(read_ledger, ready.stack, drain_s=_DRAIN_S)
        summary = summarise(
            report,
            ledger.since(ready.before),
            first_personalised_s=traffic.first_personalised_s,
            data=f"simulator + {ready.material.source}" if ready.material.source else "simulator",
            model=f"{ready.model.name}/{ready.model.version}",
            interrupted=self._stop.is_set(),
        )
        self._screen.finish(summary)
        return summary


class _Traffic:
    """Simulated shoppers and, where there are any, real sessions, at one rate together."""

    def __init__(
        self, ready: _Ready, rate: float, seconds: float | None, seed: int, screen: Screen, began: float
    ) -> None:
        sessions = ready.material.sessions
        self._url, self._world = ready.url, ready.material.world
        self._rate = rate * (1 - _REAL_SHARE) if sessions else rate
        self._seconds, self._seed, self._screen, self._began = seconds, seed, screen, began
        self._real = RealTraffic(ready.url, sessions, rate=rate * _REAL_SHARE) if sessions else None
        self._simulated = TrafficReport(started=time.monotonic())
        self.first_personalised_s: float | None = None

    @property
    def report(self) -> TrafficReport:
        return total([self._simulated] if self._real is None else [self._simulated, self._real.report])

    async def play(self, stop: asyncio.Event) -> None:
        """Play until the time is over or `stop` is set; every request is either answered or counted as unknown."""
        ended = asyncio.Event()
        real = asyncio.create_task(self._real.play(ended)) if self._real else None
        simulated = asyncio.create_task(
            play(
                self._url,
                seconds=self._seconds or _FOREVER_S,
                rate=self._rate,
                seed=self._seed,
                on_tick=self._tick,
                world=self._world,
            )
        )
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({simulated, stopped, *([real] if real else [])}, return_when=asyncio.FIRST_COMPLETED)
            if real is not None and real.done():
                real.result()
        finally:
            ended.set()
            stopped.cancel()
            if not simulated.done():
                simulated.cancel()
            results = await asyncio.gather(simulated, *([real] if real else []), return_exceptions=True)
        if isinstance(results[0], TrafficReport):
            self._simulated = results[0]
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _tick(self, report: TrafficReport) -> None:
        self._simulated = report
        whole = self.report
        if whole.personalised and self.first_personalised_s is None:
            self.first_personalised_s = round(time.monotonic() - self._began, 1)
        self._screen.tick(whole, self._seconds)


async def _until_served(url: str, model: str) -> None:
    """Wait until answers name the new model."""
    client = Client(url)
    patience = time.monotonic() + _MODEL_S
    try:
        while time.monotonic() < patience:
            answer = await client.get("/v1/recommendations?placement=home&anonymous_id=kairos-demo")
            served = (answer.json() or {}).get("model") if answer.status == 200 else None
            if served and f"{served['name']}/{served['version']}" == model:
                return
            await asyncio.sleep(0.1)
    finally:
        await client.close()
    raise demo_stack.DemoError(f"model {model} was trained but is not served after {_MODEL_S:.0f} s")
