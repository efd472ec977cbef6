"""Latencies: HdrHistogram with 3 significant digits, in microseconds, up to two minutes. Room: load_tests.

Called by the open-loop generator, the traffic driver, the probes and the floors. A figure is read in milliseconds.
"""

from __future__ import annotations

from typing import Final

from hdrh.histogram import HdrHistogram

HIGHEST_US: Final = 120_000_000
PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}


class Latencies:
    """A histogram of durations.

    Examples
    --------
    >>> latencies = Latencies()
    >>> for ms in range(1, 101):
    ...     latencies.record_ns(ms * 1_000_000)
    >>> latencies.count, round(latencies.ms(50)), round(latencies.ms(99))
    (100, 50, 99)
    """

    def __init__(self, encoded: str | None = None) -> None:
        self._histogram = HdrHistogram.decode(encoded) if encoded else HdrHistogram(1, HIGHEST_US, 3)
        self._record = self._histogram.record_value

    def record_ns(self, nanoseconds: int) -> None:
        """Count one duration; one above two minutes counts as two minutes."""
        self._record(min(max(nanoseconds // 1000, 1), HIGHEST_US))

    def add(self, other: Latencies) -> None:
        """Count what another one holds."""
        self._histogram.add(other._histogram)

    @property
    def count(self) -> int:
        """How many were counted."""
        return int(self._histogram.get_total_count())

    def ms(self, percentile: float) -> float:
        """Return a percentile in milliseconds, 0.0 if nothing was counted."""
        return int(self._histogram.get_value_at_percentile(percentile)) / 1000 if self.count else 0.0

    def summary(self) -> dict[str, float]:
        """Return p50, p90, p99, p999, max in milliseconds and the count."""
        figures = {name: round(self.ms(percentile), 3) for name, percentile in PERCENTILES.items()}
        return {**figures, "max": round(self.ms(100), 3), "count": self.count}

    def encode(self) -> str:
        """Return the histogram in the interchange format of HdrHistogram (base64)."""
        return str(self._histogram.encode().decode())

    def report(self) -> str:
        """Return the percentile distribution as `.hgrm` text, in milliseconds."""
        lines = ["       Value     Percentile TotalCount 1/(1-Percentile)", ""]
        for step in self._histogram.get_percentile_iterator(10):
            share = step.percentile_level_iterated_to / 100
            inverse = f"{1 / (1 - share):14.2f}" if share < 1 else ""
            lines.append(
                f"{step.value_iterated_to / 1000:12.3f} {share:14.12f} {step.total_count_to_this_value:10d} {inverse}"
            )
        return "\n".join(lines) + "\n"
