"""The hot path: one read, then memory and CPU. Room: serving.

`_answer` reads like its latency budget. Everything after the read blocks the loop for well under a millisecond; there
are no awaits in it, so model, catalogue and lists are one consistent moment. An answer is never a 5xx: whatever the
store or the model lacks is filled from memory and said in `degraded`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import structlog
from msgspec import UNSET, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from events.clock import new_id
from events.schema import Event, Line
from feature_store.profile import as_of
from serving.ask import MAX_BODY, PARAMETERS, Advice, Ask, ask_of_query, decode_ask
from serving.auth import Access
from serving.catalog import Catalog, Rows
from serving.errors import request_id
from serving.http import iso, read_body, refuse_unknown_query, reply
from serving.impressions import Impressions
from serving.look import Degraded, Look, Looker
from serving.metrics import Metrics
from serving.model import ActiveModel, ModelSlot
from serving.popular import PopularLists
from serving.retrieve import Floats, Found, best, permitted, personal_order, retrieve
from serving.slate import FALLBACK_SOURCES, REASONS, STEPS, Fallbacks, Slate, SlateItem
from serving.view import View, overlay, view_of
from serving.watch import Watch

log = structlog.get_logger("serving")

_CART_HISTORY: Final = 10
_MODEL_SOURCES: Final = REASONS.keys() - FALLBACK_SOURCES - {"search"}


class ModelRef(Struct):
    """The model that chose."""

    name: str
    version: str


class Freshness(Struct):
    """How new the customer's state is: the newest event time in its partition, and how far that is behind the log."""

    watermark: str | None
    lag_ms: int | None


class Answer(Struct, kw_only=True):
    """A slate, and what is to be known about it."""

    recommendation_id: str
    request_id: str
    placement: str
    items: list[SlateItem]
    model: ModelRef | None
    freshness: Freshness
    consistency: str | UnsetType = UNSET
    degraded: Degraded | None
    warnings: list[Advice]


class Scene(NamedTuple):
    """What there is to go by."""

    now_ms: int
    view: View
    history: list[str]  # what the model is asked to go on from, newest last
    forbidden: Rows  # catalogue rows that must not be shown


class Recommend:
    """The recommendation routes."""

    def __init__(
        self, looker: Looker, catalog: Catalog, popular: PopularLists, models: ModelSlot,
        impressions: Impressions | None, watch: Watch, access: Access, metrics: Metrics,
    ) -> None:  # fmt: skip
        self._looker = looker
        self._catalog = catalog
        self._popular = popular
        self._models = models
        self._impressions = impressions
        self._watch = watch
        self._access = access
        self._metrics = metrics

    async def post(self, request: Request) -> Response:
        """Answer a request with a body."""
        self._access.widget(request)
        refuse_unknown_query(request)
        ask, advice = decode_ask(await read_body(request, limit=MAX_BODY, text=True))
        return await self._answer(ask, advice, request)

    async def get(self, request: Request) -> Response:
        """Answer a request of query parameters."""
        self._access.widget(request)
        refuse_unknown_query(request, PARAMETERS)
        return await self._answer(ask_of_query(request.query_params.multi_items()), [], request)

    async def _answer(self, ask: Ask, advice: list[Advice], request: Request) -> Response:
        lap = Laps()
        look = await self._looker.look(ask, advice)  # the one round trip
        lap.end("read")
        model = self._models.active
        scene = self._see(ask, look, advice)
        try:
            found = retrieve(model, scene.history, ask.limit, self._catalog)
            lap.end("retrieve")
            found = permitted(found, self._catalog, scene.forbidden) if found else None
            lap.end("filter")
            scores = model.recommender.rank(found.candidates) if model and found else None
            lap.end("rank")
        except Exception:  # whatever native code raises: a broken model is no reason for an empty page
            log.exception("model_failed", version=model.version if model else "")
            found = scores = None
            look = look._replace(degraded=look.degraded or Degraded("popular", "model_failed"))
        slate = self._choose(ask, scene, model, found, scores, advice)
        lap.end("choose")
        answer = self._said(ask, look, slate, model, advice, request)
        response = reply(answer)
        lap.end("encode")
        self._note(ask, answer, slate, scene.now_ms)
        request.scope["kairos.stages"] = lap.stages
        self._metrics.staged(lap.stages)
        return response

    def _see(self, ask: Ask, look: Look, advice: list[Advice]) -> Scene:
        """Return what there is to go by: the stored values, overlaid with the events of the call."""
        now_ms = as_of(look.head, time.time_ns() // 1_000_000)
        customer, anonymous = look.reading.customer, look.reading.anonymous
        if ask.events:
            customer, anonymous = overlay(ask, customer, anonymous, self._catalog, now_ms, advice)
        view = view_of(customer, anonymous, now_ms)
        never = [*view.bought, *ask.exclude_item_ids]
        if ask.placement == "item":
            anchors = ask.item_ids or view.history[-1:]
            history = view.history if view.history[-1:] == anchors[-1:] else [*view.history, *anchors]
            return Scene(now_ms, view, history, self._rows([*never, *anchors]))
        if ask.placement == "cart":
            cart = ask.item_ids or view.cart
            return Scene(now_ms, view, [*view.history, *cart[-_CART_HISTORY:]], self._rows([*never, *cart]))
        return Scene(now_ms, view, [*view.history, *ask.item_ids], self._rows(never))

    def _rows(self, item_ids: Sequence[str]) -> Rows:
        return np.array(sorted(set(self._catalog.known_rows(item_ids))), dtype=np.int32)

    def _choose(
        self, ask: Ask, scene: Scene, model: ActiveModel | None, found: Found | None, scores: Floats | None,
        advice: list[Advice],
    ) -> Slate:  # fmt: skip
        slate = Slate(self._catalog, scene.forbidden, ask.limit)
        if ask.placement == "search" and self._search(ask, scene, found, scores, slate, advice):
            return slate
        if model is not None and found is not None and scores is not None:
            names, sources = model.recommender.sources, found.candidates.sources
            for place in best(scores, ask.limit):
                source = names[sources[place]]
                slate.add(int(found.rows[place]), float(scores[place]), source, REASONS.get(source, []))
        slate.fill(STEPS[ask.placement], Fallbacks(self._catalog, self._popular, ask, scene.view))
        return slate

    def _search(
        self, ask: Ask, scene: Scene, found: Found | None, scores: Floats | None, slate: Slate, advice: list[Advice]
    ) -> bool:
        """Fill the slate with what matches the query, in this customer's order; False where nothing does."""
        if not ask.query:
            advice.append(Advice("/query", "query_missing", "placement 'search' without a query: answered as 'home'"))
            return False
        rows, text = self._catalog.search.find(ask.query)
        keep = self._catalog.allowed[rows] & np.isin(rows, scene.forbidden, invert=True)
        rows, text = rows[keep], text[keep]
        if not len(rows):
            advice.append(Advice("/query", "nothing_matched", "nothing matches the query: answered as 'home'"))
            return False
        wanted = personal_order(rows, text, found, scores, self._catalog, scene.view.categories)
        for place in best(wanted, ask.limit):
            slate.add(int(rows[place]), float(wanted[place]), "search", REASONS["search"])
        return True

    def _said(
        self, ask: Ask, look: Look, slate: Slate, model: ActiveModel | None, advice: list[Advice], request: Request
    ) -> Answer:
        head = look.head
        watermark = lag_ms = None
        if head is not None:
            watermark = iso(head.watermark_ms)
            lag_ms = self._watch.lag.of(head.partition, head.position, time.time_ns() // 1_000_000)
        degraded = look.degraded
        if degraded is not None and any(item.source in _MODEL_SOURCES for item in slate.items):
            degraded = Degraded("request_only", degraded.reason)
        return Answer(
            recommendation_id=new_id(time.time_ns() // 1_000_000),
            request_id=request_id(request),
            placement=ask.placement,
            items=slate.items,
            model=ModelRef(model.name, model.version) if model else None,
            freshness=Freshness(watermark, lag_ms),
            consistency=look.consistency or UNSET,
            degraded=degraded,
            warnings=advice,
        )

    def _note(self, ask: Ask, answer: Answer, slate: Slate, now_ms: int) -> None:
        """Count the answer, and send the impression on its way."""
        if answer.degraded is not None:
            outcome = "degraded"
        elif answer.consistency == "stale":
            outcome = "stale"
        elif not slate.items:
            outcome = "empty"
        else:
            first = slate.items[0].source
            outcome = "popular" if first in FALLBACK_SOURCES else "search" if first == "search" else "model"
        self._metrics.recommended(ask.placement, outcome)
        if self._impressions is None or not slate.items or not (ask.customer_id or ask.anonymous_id):
            return
        self._impressions.add(
            Event(
                event="view_item_list",
                event_id=answer.recommendation_id,
                at_ms=now_ms,
                received_ms=now_ms,
                customer_id=ask.customer_id or "",
                anonymous_id=ask.anonymous_id or "",
                session_id=ask.session_id or "",
                items=[Line(item.item_id, position=item.rank) for item in slate.items],
                recommendation_id=answer.recommendation_id,
                properties={"served": True, "placement": ask.placement},
            )
        )


class Laps:
    """Durations of the stages."""

    __slots__ = ("_last", "stages")

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.stages: list[tuple[str, float]] = []

    def end(self, stage: str) -> None:
        now = time.perf_counter()
        self.stages.append((stage, now - self._last))
        self._last = now
