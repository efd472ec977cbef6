"""What a visitor does, step by step, and how a slate changes it. Room: load_tests, simulator.

`plan` draws who comes and how; `shop` is that session as a generator: it yields `Step`s and is sent what the visitor
was shown (or None). It knows no clock: a step says how long the visitor took, and the caller stamps times, sends
events and asks for slates. All numbers of behaviour stand at the top; docs/simulator.md explains them.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final, NamedTuple

from load_tests.simulator.catalogue import CURRENCY, Slice
from load_tests.simulator.dice import Dice
from load_tests.simulator.world import CONTINUE, World

BOTS, LATE, GUESTS, LOGS_IN = 0.02, 0.05, 0.12, 0.25  # shares of sessions; LOGS_IN of those of customers
THINK_S: Final = 35.0  # mean seconds between steps
STAYS: Final = 0.84  # probability of one more view
SEARCHES, FROM_HOME = 0.2, 0.4  # how a session begins; else directly at an item
TO_SERIES, TO_CATEGORY, TO_COMPLEMENT = 0.6, 0.22, 0.08  # where own browsing leads; else anywhere popular
UNCARTS, CHECKS_OUT, PAYS, REFUNDS = 0.08, 0.7, 0.75, 0.08
REPORTS_SLATE: Final = 0.25  # share of slates whose impression the storefront itself reports

_SHOPPER_AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"
_MOBILE_AGENT: Final = "ShopApp/4.2 (Android 15; Mobile)"
_BOT_AGENT: Final = "Mozilla/5.0 (compatible; PriceBot/2.1; +https://bots.example/about)"


class Plan(NamedTuple):
    """Who comes, and how."""

    number: int  # of the session, from 0; its id and its dice derive from it
    customer: int  # row, -1: a guest or a bot
    kind: str  # "shopper", "late" (a mobile app that was offline) or "bot"
    logs_in: bool  # starts anonymous and logs in on the way
    focus: int = -1  # row that the session is about where a campaign brought it (a burst), else -1


class Shown(NamedTuple):
    """A slate as the visitor saw it."""

    recommendation_id: str
    rows: Sequence[int]  # -1: an item that the simulator does not know
    discount: float = 0.0  # an offer on all of it


class Step(NamedTuple):
    """One thing done: the event without ids and times of sending, the pause before it, and where it was done."""

    event: dict[str, Any]
    pause_s: float
    placement: str  # where a slate is seen after it: "home", "item", "cart", "search" or ""
    item: int = -1  # row that the page is about


Shopping = Generator[Step, Shown | None, None]


def plan(world: World, number: int, day: int, dice: Dice, *, focus: int = -1) -> Plan:
    """Draw the session of a number."""
    if dice.chance(BOTS):
        return Plan(number, -1, "bot", False)
    if dice.chance(GUESTS):
        return Plan(number, -1, "shopper", False, focus)
    customer = world.customers.visitor(dice.uniform(), day)
    late = bool(world.customers.mobile[customer]) and dice.chance(LATE / 0.6)
    return Plan(number, customer, "late" if late else "shopper", dice.chance(LOGS_IN), focus)


def shop(world: World, plan: Plan, dice: Dice) -> Shopping:
    """Play one session."""
    return _crawl(world, plan, dice) if plan.kind == "bot" else _Session(world, plan, dice).play()


def _crawl(world: World, plan: Plan, dice: Dice) -> Shopping:
    """Bots view items uniformly, at a steady pace, and look at nothing that is shown."""
    who = {"anonymous_id": f"b-{plan.number:08x}", "session_id": f"s-{plan.number:x}"}
    pause = dice.between(0.2, 0.4)
    for _ in range(20 + dice.below(40)):
        row = dice.below(world.catalogue.items)
        yield Step(
            {"event": "view_item", **who, "items": [line_of(world, row)], "context": {"user_agent": _BOT_AGENT}},
            pause,
            "",
            row,
        )


class _Session:
    """The state of one shopper's session: what it is about, what is in the cart, what was last seen."""

    def __init__(self, world: World, plan: Plan, dice: Dice) -> None:
        self.world, self.plan, self.dice = world, plan, dice
        self.who = {"session_id": f"s-{plan.number:x}"}
        if plan.customer < 0:
            self.who["anonymous_id"] = f"g-{plan.number:08x}"
        else:
            self.who["anonymous_id"] = world.customers.device_id(plan.customer)
            if not plan.logs_in:
                self.who["customer_id"] = world.customers.customer_id(plan.customer)
        mobile = plan.customer >= 0 and bool(world.customers.mobile[plan.customer])
        self.context = {"user_agent": _MOBILE_AGENT if mobile else _SHOPPER_AGENT}
        self.intent = plan.focus if plan.focus >= 0 else self._intent()
        self.cart: dict[int, int] = {}
        self.shown: Shown | None = None
        self.recommended_by = ""  # the slate that led to the item in view

    def _intent(self) -> int:
        goods = self.world.catalogue
        category = int(self.world.interest(self.plan.customer).searchsorted(self.dice.uniform(), side="right"))
        category = min(category, len(goods.offsets) - 2)
        return goods.pick(self.dice, Slice(int(goods.offsets[category]), int(goods.offsets[category + 1])))

    def play(self) -> Shopping:
        """Arrive, browse until it is enough, check out what is in the cart, perhaps send it back later."""
        row = yield from self._arrive()
        while True:
            yield from self._view(row)
            if not self.dice.chance(STAYS):
                break
            if self.plan.logs_in and "customer_id" not in self.who and self.dice.chance(0.3):
                yield from self._log_in()
            row = self._choose(row)
            if self.recommended_by:
                yield from self._do("select_item", [row])
        if self.cart:
            yield from self._check_out()

    def _do(self, name: str, rows: Sequence[int], placement: str = "", **more: Any) -> Shopping:
        event: dict[str, Any] = {"event": name, **self.who}
        if rows:
            event["items"] = [line_of(self.world, row, self.cart.get(row, 1)) for row in rows]
        if self.recommended_by and name in {"select_item", "view_item", "add_to_cart"}:
            event["recommendation_id"] = self.recommended_by
        event.update(more, context=self.context)
        pause = self.dice.exponential(THINK_S * (0.2 if name == "select_item" else 1.0))
        shown = yield Step(event, pause, placement, rows[0] if rows else -1)
        if shown is not None and shown.rows:
            self.shown = shown
            known = [row for row in shown.rows if row >= 0]
            if known and self.dice.chance(REPORTS_SLATE):
                lines = [{"item_id": self.world.catalogue.item_id(r), "position": p} for p, r in enumerate(known)]
                impression = {"event": "view_item_list", **self.who, "items": lines, "context": self.context}
                yield Step({**impression, "recommendation_id": shown.recommendation_id}, 0.1, "")

    def _arrive(self) -> Generator[Step, Shown | None, int]:
        """Come by search, by the home page or directly; return the row that is viewed first."""
        draw = self.dice.uniform()
        if draw < SEARCHES:
            yield from self._do("search", [], "search", query=self.world.catalogue.query(self.intent))
        elif draw < SEARCHES + FROM_HOME:
            yield from self._do("page_view", [], "home")
        chosen = self._clicked()
        if chosen >= 0:
            yield from self._do("select_item", [chosen])
            return chosen
        return self.intent

    def _view(self, row: int) -> Shopping:
        """Look at an item and what is shown beside it; perhaps it goes into the cart, perhaps something out of it."""
        yield from self._do("view_item", [row], "item")
        discount = self.shown.discount if self.shown and row in self.shown.rows else 0.0
        if row not in self.cart and self.dice.chance(
            self.world.purchase_probability(self.plan.customer, row, discount=discount)
        ):
            self.cart[row] = 1 + (self.dice.below(10) == 0)
            yield from self._do("add_to_cart", [row], "cart")
        elif self.cart and self.dice.chance(UNCARTS):
            gone = next(iter(self.cart))
            yield from self._do("remove_from_cart", [gone])
            del self.cart[gone]
        self.recommended_by = ""

    def _choose(self, row: int) -> int:
        """Click something of the slate, else browse on one's own."""
        chosen = self._clicked()
        if chosen >= 0:
            return chosen
        goods, draw = self.world.catalogue, self.dice.uniform()
        if draw < TO_SERIES:
            return goods.pick(self.dice, goods.series_of(row))
        if draw < TO_SERIES + TO_CATEGORY:
            return goods.pick(self.dice, goods.category_of(row))
        if draw < TO_SERIES + TO_CATEGORY + TO_COMPLEMENT:
            other = int(goods.complement[goods.category[row]])
            return goods.pick(self.dice, Slice(int(goods.offsets[other]), int(goods.offsets[other + 1])))
        return goods.pick(self.dice, Slice(0, goods.items))

    def _clicked(self) -> int:
        """Go down the last slate as the cascade does; return the row that is clicked, -1 if none."""
        shown, self.shown = self.shown, None
        if shown is None:
            return -1
        rows = [row for row in shown.rows if row >= 0]
        if not rows:
            return -1
        attraction = self.world.attraction(
            self.plan.customer, rows, intent=self.intent, discount=shown.discount
        ).tolist()
        for row, probability in zip(rows, attraction, strict=True):
            if self.dice.chance(probability):
                self.recommended_by = shown.recommendation_id
                return row
            if not self.dice.chance(CONTINUE):
                return -1
        return -1

    def _log_in(self) -> Shopping:
        self.who["customer_id"] = self.world.customers.customer_id(self.plan.customer)
        yield from self._do("login", [])

    def _check_out(self) -> Shopping:
        rows, goods = list(self.cart), self.world.catalogue
        cents = sum(int(goods.price_cents[row]) * count for row, count in self.cart.items())
        money = {"value": cents / 100, "currency": CURRENCY}
        if not self.dice.chance(CHECKS_OUT):
            return
        yield from self._do("begin_checkout", rows, "", **money)
        if self.plan.logs_in and "customer_id" not in self.who:
            yield from self._log_in()
        if not self.dice.chance(PAYS):
            return
        order_id = f"o-{self.plan.number:x}"
        yield from self._do("add_payment_info", rows, "", **money)
        yield from self._do("purchase", rows, "", order_id=order_id, **money)
        if self.dice.chance(REFUNDS):
            back = rows[0]
            value = int(goods.price_cents[back]) * self.cart[back] / 100
            refund: dict[str, Any] = {
                "event": "refund",
                **self.who,
                "items": [line_of(self.world, back, self.cart[back])],
            }
            refund |= {"order_id": order_id, "value": value, "currency": CURRENCY, "context": self.context}
            yield Step(refund, self.dice.between(3, 20) * 86_400.0, "", back)


def line_of(world: World, row: int, quantity: int = 1) -> dict[str, Any]:
    """Return an item as a line of an event."""
    goods = world.catalogue
    return {
        "item_id": goods.item_id(row),
        "quantity": quantity,
        "price": goods.price(row),
        "currency": CURRENCY,
        "category": goods.category_paths[goods.category[row]],
        "brand": goods.brand_names[goods.brand[row]],
    }
