"""What each event means for features: its stored code, its weight for affinities, whether its items are "touched".

Room: feature_store, pure. Codes are stored in customer values: append, never renumber.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Meaning(NamedTuple):
    """One row of the table below."""

    code: int
    weight: float  # for category, brand and price-band affinity; 0: says nothing about taste
    touches: bool  # its items join the session's recent items
    kind: str  # popularity counter: v(iew), c(art), p(urchase), or ""


MEANINGS: Final[dict[str, Meaning]] = {
    "view_item": Meaning(0, 1.0, touches=True, kind="v"),
    "select_item": Meaning(1, 0.5, touches=True, kind=""),
    "add_to_cart": Meaning(2, 3.0, touches=True, kind="c"),
    "remove_from_cart": Meaning(3, -1.0, touches=False, kind=""),
    "purchase": Meaning(4, 5.0, touches=True, kind="p"),
    "add_to_wishlist": Meaning(5, 2.0, touches=True, kind=""),
    "search": Meaning(6, 0.0, touches=False, kind=""),
    "view_item_list": Meaning(7, 0.0, touches=False, kind=""),
    "refund": Meaning(8, -2.0, touches=False, kind=""),
    "cancel_order": Meaning(9, -2.0, touches=False, kind=""),
    "page_view": Meaning(10, 0.0, touches=False, kind=""),
    "view_cart": Meaning(11, 0.0, touches=False, kind=""),
    "begin_checkout": Meaning(12, 0.0, touches=False, kind=""),
    "add_shipping_info": Meaning(13, 0.0, touches=False, kind=""),
    "add_payment_info": Meaning(14, 0.0, touches=False, kind=""),
    "remove_from_wishlist": Meaning(15, -1.0, touches=False, kind=""),
    "view_promotion": Meaning(16, 0.0, touches=False, kind=""),
    "select_promotion": Meaning(17, 0.0, touches=False, kind=""),
    "apply_coupon": Meaning(18, 0.0, touches=False, kind=""),
    "review_item": Meaning(19, 1.0, touches=True, kind=""),
    "share": Meaning(20, 1.0, touches=True, kind=""),
    "check_in": Meaning(21, 0.0, touches=False, kind=""),
    "offer_presented": Meaning(22, 0.0, touches=False, kind=""),
    "offer_accepted": Meaning(23, 0.0, touches=False, kind=""),
    "offer_rejected": Meaning(24, 0.0, touches=False, kind=""),
    "offer_expired": Meaning(25, 0.0, touches=False, kind=""),
    "message_sent": Meaning(26, 0.0, touches=False, kind=""),
    "message_opened": Meaning(27, 0.0, touches=False, kind=""),
    "message_clicked": Meaning(28, 0.0, touches=False, kind=""),
    "message_aborted": Meaning(29, 0.0, touches=False, kind=""),
    "unsubscribe": Meaning(30, 0.0, touches=False, kind=""),
    "sign_up": Meaning(31, 0.0, touches=False, kind=""),
    "login": Meaning(32, 0.0, touches=False, kind=""),
    "consent_updated": Meaning(33, 0.0, touches=False, kind=""),
    "complaint": Meaning(34, 0.0, touches=False, kind=""),
    "support_contact": Meaning(35, 0.0, touches=False, kind=""),
    "not_interested": Meaning(36, -3.0, touches=False, kind=""),
}

#: Which events count an item as popular, and under which letter.
KINDS: Final = {name: meaning.kind for name, meaning in MEANINGS.items() if meaning.kind}

#: A custom event (``x_…``) shares one code: it is counted, and says nothing more.
CUSTOM: Final = Meaning(63, 0.0, touches=False, kind="")

NAMES: Final[dict[int, str]] = {m.code: name for name, m in MEANINGS.items()} | {CUSTOM.code: "custom"}


def meaning_of(event: str) -> Meaning:
    """Return what an event name means; an unknown name is a custom event."""
    return MEANINGS.get(event, CUSTOM)
