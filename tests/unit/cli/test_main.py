"""The command: which module is loaded, what a missing one says, how an error looks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from cli.main import WORDS, missing_line, run
from cli.stack import split
from cli.status import count_after
from events.errors import SettingsError
from events.log import Batch


def ends_with(code: int, *arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    assert ended.value.code == code


def test_help_names_every_command_and_loads_none() -> None:
    program = (
        "import sys\nfrom cli.main import run\n"
        "try: run(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.startswith('cli.')))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "['cli.main']"
    for word in WORDS:
        assert f"  {word} " in answer.stdout


def test_a_command_of_a_missing_module_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "cli.bench", None)
    ends_with(2, "bench", "ingest")
    assert (
        capsys.readouterr().err == "kairos: `kairos bench` is not in this installation: there is no module cli.bench\n"
    )


def test_a_missing_package_is_named_with_the_extra_that_brings_it() -> None:
    assert missing_line("train", "polars.io") == ("`kairos train` needs the package polars: install kairos[train]")


def test_an_error_of_ours_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def status() -> None:
        raise SettingsError("no stack runs\nhere")

    module = ModuleType("cli.status")
    module.status = status  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cli.status", module)
    ends_with(2, "status")
    assert capsys.readouterr().err == "kairos: no stack runs here\n"


def test_an_unknown_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    ends_with(2, "personalise")
    assert "No such command 'personalise'" in capsys.readouterr().err


def test_status_of_a_directory_without_a_stack_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends_with(2, "status", "--data-dir", str(tmp_path))
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("partitions", "processes", "spans"),
    [(4, 1, ["0-3"]), (4, 2, ["0-1", "2-3"]), (4, 3, ["0-1", "2", "3"]), (4, 4, ["0", "1", "2", "3"])],
)
def test_partitions_are_split_evenly_and_in_order(partitions: int, processes: int, spans: list[str]) -> None:
    assert split(partitions, processes) == spans


def test_entries_after_a_position_are_counted_not_computed() -> None:
    class Sparse:
        """A log whose positions are far apart, as those of streams are."""

        at = (5, 900, 10_000)

        def end(self, partition: int) -> int:
            return self.at[-1]

        def read(self, after: dict[int, int], *, limit: int, wait_ms: int = 0) -> list[Batch]:
            left = [position for position in self.at if position > after[0]][:1]
            return [Batch(0, left, [b""] * len(left))] if left else []

    assert [count_after(Sparse(), 0, position) for position in (-1, 5, 10_000)] == [3, 2, 0]  # type: ignore[arg-type]
