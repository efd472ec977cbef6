"""What an API process counts. Room: serving. Names are Prometheus', served at /metrics."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

_STAGES: Final = ("read", "retrieve", "filter", "rank", "choose", "encode")
_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


class Metrics:
    """Counters, histograms and gauges, in a registry of their own (so that two apps can live in one test)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "kairos_http_request_seconds", "Duration by route and status", ("route", "status"),
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.events = Counter(
            "kairos_events", "Events by what became of them: accepted, repeated, rejected", ("outcome",),
            registry=self.registry,
        )  # fmt: skip
        self.answers = Counter(
            "kairos_recommendations", "Answers: model, search, popular, empty, degraded or stale",
            ("placement", "outcome"), registry=self.registry,
        )  # fmt: skip
        self._stages = Histogram(
            "kairos_recommendation_stage_seconds", "Duration of one stage of an answer", ("stage",),
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        self.impressions = Counter("kairos_impressions_logged", "Impressions in the log", registry=self.registry)
        self.impressions_dropped = Counter(
            "kairos_impressions_dropped", "Impressions lost: the buffer was full", registry=self.registry
        )
        self.shed = Counter("kairos_events_shed", "Requests refused with 429", ("reason",), registry=self.registry)
        self.model_loads = Counter("kairos_model_loads", "Model loads by outcome", ("outcome",), registry=self.registry)
        self.model = Gauge(
            "kairos_model_active", "1 for the model that answers", ("name", "version"), registry=self.registry
        )
        self.lag = Gauge("kairos_state_lag_seconds", "How far state is behind the log", registry=self.registry)
        self.popular_age = Gauge("kairos_popular_age_seconds", "Age of the popularity lists", registry=self.registry)
        self.catalog_items = Gauge("kairos_catalog_items", "Items of the catalogue", registry=self.registry)
        self.catalog_behind = Gauge(
            "kairos_catalog_checked_seconds", "When catalogue changes were last looked for", registry=self.registry
        )
        self.breaker = Gauge("kairos_store_breaker_open", "1 while the store is not asked", registry=self.registry)
        self._stage = {stage: self._stages.labels(stage) for stage in _STAGES}
        self._recommended: dict[tuple[str, str], Counter] = {}
        self._answered: dict[tuple[str, int], Histogram] = {}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count one HTTP answer."""
        key = (route, status)
        child = self._answered.get(key)
        if child is None:
            child = self._answered[key] = self._requests.labels(route, str(status))
        child.observe(seconds)

    def recommended(self, placement: str, outcome: str) -> None:
        """Count one recommendation."""
        key = (placement, outcome)
        child = self._recommended.get(key)
        if child is None:
            child = self._recommended[key] = self.answers.labels(placement, outcome)
        child.inc()

    def staged(self, stages: list[tuple[str, float]]) -> None:
        """Record the stages of one answer."""
        for stage, seconds in stages:
            self._stage[stage].observe(seconds)

    def text(self) -> bytes:
        """Return the exposition."""
        exposition: bytes = generate_latest(self.registry)  # type: ignore[no-untyped-call]
        return exposition
