"""The demo's account: what was sent against what became of it, as the partitions' heads and the dead letters say.

Room: cli. The sender's side is `load_tests.account`; the engine's side is read from the stores, never from the API, so
the two are independent.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from cli.data_dir import StackFile
from cli.status import account_of, count_after, read_heads
from events.dead_letters import DeadLetters
from events.log import open_log
from load_tests.account import TrafficReport
from load_tests.histogram import Latencies


class Ledger(msgspec.Struct, frozen=True):
    """The engine's side at one moment."""

    applied: int
    duplicates: int
    flow_letters: int
    intake_letters: int

    def since(self, before: Ledger) -> Ledger:
        """Return what was added after an earlier moment."""
        return Ledger(*(getattr(self, f) - getattr(before, f) for f in self.__struct_fields__))


class Summary(msgspec.Struct, kw_only=True):
    """What `kairos demo --json` prints."""

    exact: bool  # sent = applied + duplicates + dead-lettered, and the dead letters are the expected ones
    events_sent: int
    events_applied: int
    duplicates: int
    dead_lettered: int
    expected_dead_letters: int
    customers: int
    answers: int
    degraded_share: float
    answer_p99_ms: float
    freshness_p99_ms: float
    personalised_share: float
    events_per_s: float
    answers_per_s: float
    answer_ms: dict[str, float]
    freshness_ms: dict[str, float]
    seconds: float
    first_personalised_s: float | None  # after the command was given
    sessions: int
    clicks: int
    purchases: int
    repeats_sent: int
    late: int
    stale: int
    unknown: int  # events without a definite answer; 0 unless interrupted
    sources: dict[str, int]
    errors: dict[str, int]
    data: str
    model: str
    interrupted: bool


def read_ledger(stack: StackFile, *, drain_s: float = 0.0) -> Ledger:
    """Read the engine's side, after the flows have caught up with the log or `drain_s` have passed."""
    log = open_log(stack.log_url)
    letters = DeadLetters(stack.store_url, stack.partitions)
    try:
        patience = time.monotonic() + drain_s
        while True:
            heads = read_heads(stack.store_url, log)
            behind = sum(count_after(log, partition, head.position) for partition, head in heads.items())
            if not behind or time.monotonic() > patience:
                break
            time.sleep(0.1)
        account = account_of(list(heads.values()))
        counts = letters.counts()
    finally:
        letters.close()
        log.close()
    return Ledger(account.applied, account.duplicates, account.dead_lettered, counts["intake"])


def total(reports: Sequence[TrafficReport]) -> TrafficReport:
    """Return one report of several senders."""
    whole = TrafficReport(started=min(report.started for report in reports))
    for report in reports:
        for name in (
            "sessions", "events_sent", "accepted", "repeated", "rejected", "unknown", "repeats_sent", "late", "answers",
            "degraded", "personalised", "stale", "clicks", "purchases",
        ):  # fmt: skip
            setattr(whole, name, getattr(whole, name) + getattr(report, name))
        for counters in ("broken", "sources", "errors"):
            getattr(whole, counters).update(getattr(report, counters))
        for histogram in ("event_latency", "answer_latency", "freshness"):
            mine: Latencies = getattr(whole, histogram)
            mine.add(getattr(report, histogram))
        whole.identities |= report.identities
    whole.seconds = time.monotonic() - whole.started
    return whole


def summarise(report: TrafficReport, engine: Ledger, **about: Any) -> Summary:
    """Put both sides together."""
    duplicates = engine.duplicates + report.repeated  # intake drops a repeat within one request before the log
    dead = engine.flow_letters + engine.intake_letters
    expected = report.expected_rejected
    exact = report.events_sent == engine.applied + duplicates + dead and dead == expected == report.rejected
    seconds = max(report.seconds, 1e-9)
    return Summary(
        exact=exact,
        events_sent=report.events_sent,
        events_applied=engine.applied,
        duplicates=duplicates,
        dead_lettered=dead,
        expected_dead_letters=expected,
        customers=report.customers,
        answers=report.answers,
        degraded_share=round(report.degraded_share, 6),
        answer_p99_ms=round(report.answer_p99_ms, 3),
        freshness_p99_ms=round(report.freshness_p99_ms, 3),
        personalised_share=round(report.personalised_share, 4),
        events_per_s=round(report.events_sent / seconds, 1),
        answers_per_s=round(report.answers / seconds, 1),
        answer_ms=report.answer_latency.summary(),
        freshness_ms=report.freshness.summary(),
        seconds=round(report.seconds, 3),
        sessions=report.sessions,
        clicks=report.clicks,
        purchases=report.purchases,
        repeats_sent=report.repeats_sent,
        late=report.late,
        stale=report.stale,
        unknown=report.events_sent - report.accepted - report.repeated - report.rejected,
        sources=dict(Counter(report.sources).most_common()),
        errors=dict(report.errors),
        **about,
    )
