"""Event names that others use, and what they are called here. Room: events, pure.

Used for the hint in an error only: an event under another name is refused, never silently renamed.
"""

from __future__ import annotations

import difflib
import re
from typing import Final

from events.schema import CATALOG_UPDATED, EVENT_NAMES

#: A shop's own event, counted but without a meaning for features: ``x_`` and up to 60 of a-z, 0-9, _.
CUSTOM_NAME: Final = re.compile(r"x_[a-z0-9_]{1,60}\Z")

#: Segment v2, Snowplow and data-set names (API.md), lower case with underscores.
ALIASES: Final[dict[str, str]] = {
    "product_list_viewed": "view_item_list", "list_view": "view_item_list", "impression": "view_item_list",
    "product_clicked": "select_item", "list_click": "select_item", "click": "select_item",
    "product_viewed": "view_item", "product_view": "view_item", "view": "view_item", "pageview": "page_view",
    "page_viewed": "page_view", "page": "page_view",
    "products_searched": "search",
    "product_added": "add_to_cart", "cart": "add_to_cart", "addtocart": "add_to_cart",
    "product_removed": "remove_from_cart", "cart_viewed": "view_cart",
    "checkout_started": "begin_checkout", "checkout_step": "begin_checkout",
    "checkout_step_completed": "begin_checkout", "payment_info_entered": "add_payment_info",
    "order_completed": "purchase", "transaction": "purchase", "buy": "purchase", "order": "purchase",
    "order_refunded": "refund", "order_cancelled": "cancel_order", "cancel": "cancel_order",
    "product_added_to_wishlist": "add_to_wishlist", "follow": "add_to_wishlist",
    "product_removed_from_wishlist": "remove_from_wishlist",
    "promotion_viewed": "view_promotion", "promo_view": "view_promotion",
    "promotion_clicked": "select_promotion", "promo_click": "select_promotion",
    "coupon_applied": "apply_coupon", "product_reviewed": "review_item", "comment": "review_item",
    "product_shared": "share", "signed_up": "sign_up", "identify": "login",
}  # fmt: skip


def is_known(name: str) -> bool:
    """Whether an event of this name is accepted."""
    return name in EVENT_NAMES or CUSTOM_NAME.match(name) is not None


def remedy_for(name: str) -> str:
    """Return what the sender of an unknown name should do."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")
    if plain == CATALOG_UPDATED:
        return "the catalogue is written with PUT /v1/catalog/items"
    if meant := ALIASES.get(plain):
        return f"did you mean '{meant}'?"
    if plain in EVENT_NAMES:
        return f"did you mean '{plain}'?"
    known = [*EVENT_NAMES, *ALIASES]
    if close := difflib.get_close_matches(plain[:64], known, n=1, cutoff=0.75):
        return f"did you mean '{ALIASES.get(close[0], close[0])}'?"
    return "names are GA4's in snake_case (docs/http.md), a shop's own begin with 'x_'"
