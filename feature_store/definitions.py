"""Every customer feature, declared once: name, type, unit, default, meaning, purpose, privacy, and how it is read.

Room: feature_store, pure. `profile.describe` and the docs table (`docs/features.md`) are made from this list. To add a
feature: a field in `customer.Customer` (appended), its transition in `customer.apply`, a row here, a law in
`tests/property`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from events.schema import MICROS
from feature_store import decay
from feature_store.customer import Customer
from feature_store.session import GAP_MS
from feature_store.vocabulary import NAMES

Read = Callable[[Customer, int], Any]


class Feature(NamedTuple):
    """A declaration. `read(customer, now_ms)` gives the value as of `now_ms`."""

    name: str
    type: str
    unit: str
    default: Any
    meaning: str
    purpose: str  # consent purpose: analytics | personalisation
    privacy: str  # none | behaviour | finance
    read: Read


def _by_name(counts: Mapping[int, Any]) -> dict[str, Any]:
    return {NAMES.get(code, str(code)): value for code, value in counts.items()}


def _decayed(of: Callable[[Customer], Mapping[Any, float]]) -> Read:
    def read(customer: Customer, now_ms: int) -> dict[Any, float]:
        sums = of(customer)
        values = {key: decay.as_of(total, now_ms, customer.landmark_ms) for key, total in sums.items()}
        return dict(sorted(values.items(), key=lambda pair: (-pair[1], str(pair[0]))))

    return read


def _price_bands(customer: Customer, now_ms: int) -> dict[str, float]:
    bands = _decayed(lambda c: c.price_bands)(customer, now_ms)
    return {f"{(1 << band - 1) / MICROS:g}-{(1 << band) / MICROS:g}": value for band, value in bands.items()}


def _session(customer: Customer, now_ms: int) -> dict[str, Any]:
    session = customer.session
    return {
        "session_id": session.session_id,
        "opened_ms": session.opened_ms,
        "last_ms": session.last_ms,
        "live": now_ms - session.last_ms <= GAP_MS,
        "events": session.events,
        "items": session.item_ids(),
        "cart": session.cart,
        "queries": session.queries,
    }


def _recent(customer: Customer, now_ms: int) -> list[dict[str, Any]]:  # noqa: ARG001
    return [{"item_id": t.item_id, "event": NAMES[t.code], "at_ms": t.at_ms} for t in customer.session.recent]


def _recency(customer: Customer, now_ms: int) -> float | None:
    if not customer.last_order_ms:
        return None
    return max(0, now_ms - customer.last_order_ms) / 86_400_000


_B, _P = "behaviour", "personalisation"

FEATURES: Final = (
    Feature("first_seen_ms", "int", "ms UTC", 0, "event time of the first event", _P, _B, lambda c, _: c.first_ms),
    Feature("last_seen_ms", "int", "ms UTC", 0, "event time of the last event", _P, _B, lambda c, _: c.last_ms),
    Feature("sessions", "int", "sessions", 0, "visits, 30 minutes apart or named so by the storefront", _P, _B,
            lambda c, _: c.sessions),
    Feature("counts", "map[event, int]", "events", {}, "events ever, by name", _P, _B, lambda c, _: _by_name(c.counts)),
    Feature("decayed_counts", "map[event, float]", "events", {}, "events by name, half-life 7 days", _P, _B,
            lambda c, now: _by_name(_decayed(lambda x: x.decayed)(c, now))),
    Feature("category_affinity", "map[category, float]", "weighted events", {},
            "taste by category path: views 1, carts 3, purchases 5 …, half-life 7 days, strongest 16 to 24", _P, _B,
            _decayed(lambda c: c.categories)),
    Feature("brand_affinity", "map[brand, float]", "weighted events", {}, "taste by brand, as by category", _P, _B,
            _decayed(lambda c: c.brands)),
    Feature("price_bands", "map[range, float]", "weighted events", {}, "taste by price, in octaves of the price", _P,
            _B, _price_bands),
    Feature("recency_days", "float | null", "days", None, "since the last order", "analytics", "finance", _recency),
    Feature("frequency", "int", "orders", 0, "orders ever; rows of one basket are one order", "analytics", "finance",
            lambda c, _: c.orders),
    Feature("monetary", "map[currency, float]", "currency", {}, "spent ever by currency, refunds taken off",
            "analytics", "finance", lambda c, _: {k: v / MICROS for k, v in c.spent.items()}),
    Feature("session", "object", "", {}, "the visit that is going on, or the last one", _P, _B, _session),
    Feature("recent_items", "list[object]", "", [], "last 50 touched items with event and time, newest last", _P, _B,
            _recent),
)  # fmt: skip


def docs_table() -> str:
    """Return the declarations as a Markdown table, for docs/features.md."""
    rows = ["| feature | type | unit | default | meaning | purpose | privacy |", "|---|---|---|---|---|---|---|"]
    rows += [
        f"| `{f.name}` | `{f.type.replace('|', chr(92) + '|')}` | {f.unit} | `{f.default}` | {f.meaning} | {f.purpose} | {f.privacy} |"  # noqa: E501
        for f in FEATURES
    ]
    return "\n".join(rows) + "\n"
