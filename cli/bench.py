"""`kairos bench ingest|freshness|serving`: the benchmarks, each with its floor in the same run. Room: cli.

What they do lives in `load_tests.benchmarks`; here is what they are given (the embedded store) and how they end: one
JSON object on stdout; exit code 1, and the reasons, where a run gives no figure.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Final, NoReturn

import msgspec
import typer

from cli.embedded import store_part
from events.errors import KairosError

_BEGAN: Final = time.monotonic()

_Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, progress on stderr.")]
_Full = Annotated[
    bool, typer.Option("--full", help="The long protocol: more events, three rounds, the worst reported.")
]


class BenchError(KairosError):
    """A benchmark could not be run."""


def ingest(json: _Json = False, full: _Full = False) -> None:
    """Measure events a second through log, dataflow and Redis, beside the bare loop."""
    from load_tests.benchmarks import ingest as bench

    _report(lambda: bench.measure(_store, full=full, say=_say), json=json)


def freshness(json: _Json = False, full: _Full = False) -> None:
    """Measure from a click to the state and to a changed answer, beside 5,000 events a second."""
    from load_tests.benchmarks import freshness as bench

    _report(lambda: bench.measure(full=full, say=_say), json=json)


def serving(
    json: _Json = False,
    full: _Full = False,
    keep: Annotated[Path | None, typer.Option(help="Directory for the raw histograms (.hgrm, .hdr).")] = None,
) -> None:
    """Measure answers over 100,000 items, in an open loop and at saturation, beside their floor."""
    from load_tests.benchmarks import serving as bench

    _report(lambda: bench.measure(full=full, say=_say, keep=keep), json=json)


def _store(data_dir: Path, socket: Path) -> Sequence[str]:
    return store_part(data_dir, socket).command


def _say(line: str) -> None:
    typer.echo(f"bench {time.monotonic() - _BEGAN:5.0f} s: {line}", err=True)


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    """Turn a request to end into an exception, so that what was started is stopped."""
    raise SystemExit(143)


def _report(measure: Callable[[], dict[str, Any]], *, json: bool) -> None:
    """Run, print, and end with 1 where there is no figure."""
    from load_tests.benchmarks.processes import BenchmarkError
    from load_tests.prepare import RefusedError

    signal.signal(signal.SIGTERM, _end)
    try:
        report = measure()
    except (BenchmarkError, RefusedError, OSError) as err:
        raise BenchError(f"no figure: {err}") from err
    text = msgspec.json.encode(report)
    typer.echo((text if json else msgspec.json.format(text)).decode())
    if report.get("why"):
        for reason in report["why"]:
            _say(f"no figure: {reason}")
        raise typer.Exit(1)
