"""The exact account of played traffic. Room: load_tests. Filled by `traffic`, read by the demo and its live line."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

from load_tests.histogram import Latencies


@dataclasses.dataclass(slots=True)
class TrafficReport:
    """What was sent and what came back; complete when `play` has returned.

    ``events_sent == accepted + repeated + rejected + unknown`` always, and a sound API makes
    ``rejected == expected_rejected`` and ``unknown == 0``. Of the accepted, `repeats_sent` are repeats.
    """

    started: float = 0.0  # time.monotonic()
    seconds: float = 0.0
    sessions: int = 0
    events_sent: int = 0  # broken ones and repeats included; a retry of an unknown outcome is not sent anew
    accepted: int = 0
    repeated: int = 0  # in one request, as the API says
    rejected: int = 0
    unknown: int = 0  # no definite answer after all tries
    repeats_sent: int = 0
    late: int = 0
    broken: Counter[str] = dataclasses.field(default_factory=Counter)  # by label of `BREAKAGES`
    identities: set[str] = dataclasses.field(default_factory=set)
    answers: int = 0
    degraded: int = 0
    personalised: int = 0
    stale: int = 0  # answers that could not reflect the asked-for click in time
    clicks: int = 0
    purchases: int = 0
    sources: Counter[str] = dataclasses.field(default_factory=Counter)  # of slate items
    errors: Counter[str] = dataclasses.field(default_factory=Counter)  # by status or exception
    event_latency: Latencies = dataclasses.field(default_factory=Latencies)  # from the planned time
    answer_latency: Latencies = dataclasses.field(default_factory=Latencies)
    freshness: Latencies = dataclasses.field(default_factory=Latencies)  # event accepted -> answer that reflects it

    @property
    def expected_rejected(self) -> int:
        """How many events were broken on purpose."""
        return self.broken.total()

    @property
    def customers(self) -> int:
        """Distinct customers, counting visitors who are not known."""
        return len(self.identities)

    @property
    def degraded_share(self) -> float:
        return self.degraded / self.answers if self.answers else 0.0

    @property
    def personalised_share(self) -> float:
        """Share of answers with an item of a personal source (`traffic.IMPERSONAL`) that differ from the cold slate."""
        return self.personalised / self.answers if self.answers else 0.0

    @property
    def answer_p99_ms(self) -> float:
        return self.answer_latency.ms(99)

    @property
    def freshness_p99_ms(self) -> float:
        return self.freshness.ms(99)

    def summary(self) -> dict[str, Any]:
        """Return the account as JSON-ready values."""
        plain = ("sessions", "events_sent", "accepted", "repeated", "rejected", "unknown", "repeats_sent", "late")
        slates = ("answers", "degraded", "personalised", "stale", "clicks", "purchases")
        return {
            "seconds": round(self.seconds, 3),
            **{name: getattr(self, name) for name in (*plain, *slates)},
            "expected_rejected": self.expected_rejected,
            "customers": self.customers,
            "degraded_share": self.degraded_share,
            "personalised_share": self.personalised_share,
            "broken": dict(self.broken),
            "sources": dict(self.sources),
            "errors": dict(self.errors),
            "event_ms": self.event_latency.summary(),
            "answer_ms": self.answer_latency.summary(),
            "freshness_ms": self.freshness.summary(),
        }
