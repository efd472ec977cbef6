"""What a sender is told: field, value, remedy. Room: events, pure.

Called by `events.wire` and `events.wire_catalog`: a decoder's exception goes in, an `EventError` comes out. Values are
shown shortened, to their sender only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw

from events.errors import EventError

MAX_DEPTH: Final = 16

REMEDIES: Final = {
    "event": "send a name of docs/http.md, e.g. 'view_item'",
    "timestamp": "send RFC 3339 with a zone ('2026-11-22T10:00:00.000Z') or epoch milliseconds, not seconds",
    "sent_at": "send RFC 3339 with a zone ('2026-11-22T10:00:00.000Z') or epoch milliseconds, not seconds",
    "quantity": "send a whole number from 1 to 1,000,000 (what is given back counts up too, under 'refund')",
    "price": "send a number from 0 to 1,000,000,000 in units of the currency, e.g. 19.95",
    "list_price": "send a number from 0 to 1,000,000,000 in units of the currency, e.g. 19.95",
    "value": "send a number from 0 to 1,000,000,000,000 in units of the currency, e.g. 19.95",
    "currency": "send the three letters of ISO 4217, e.g. 'EUR'",
    "position": "send the rank in the list, from 0",
    "items": "send a list of at most 200 objects, each with an 'item_id'",
    "consent": "send an object of category and true or false, at most 50",
    "experiment": "send a list of at most 20 strings",
    "schema_version": "this server reads version 1",
    "historical": "send true or false",
    "stock": "send the number of units, 0 for out of stock",
    "hidden": "send true or false",
    "attributes": "send an object of at most 50 short strings",
}

#: Fields of others, and ours for the same thing.
MEANT: Final = {
    "user_id": "customer_id", "userId": "customer_id", "uid": "customer_id", "customerId": "customer_id",
    "anonymousId": "anonymous_id", "visitor_id": "anonymous_id", "visitorId": "anonymous_id",
    "messageId": "event_id", "message_id": "event_id", "eventId": "event_id", "id": "event_id",
    "sessionId": "session_id", "type": "event", "name": "event", "event_name": "event",
    "time": "timestamp", "ts": "timestamp", "originalTimestamp": "timestamp", "sentAt": "sent_at",
    "product_id": "item_id", "productId": "item_id", "itemId": "item_id", "products": "items",
    "transaction_id": "order_id", "orderId": "order_id", "revenue": "value", "total": "value",
    "search_term": "query", "recommId": "recommendation_id", "recommendationId": "recommendation_id",
}  # fmt: skip

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_AT: Final = re.compile(r" - at `(?:key in )?\$(.*?)`\Z", re.DOTALL)
_STEP: Final = re.compile(r"\[(\d+|\.\.\.)\]|\.([^.\[]+)")
_MISSING: Final = re.compile(r"missing required field `(\w+)`")

_T = TypeVar("_T")


def decode_json(decoder: msgspec.json.Decoder[_T], raw: bytes | Raw, pointer: str = "") -> _T:
    """Decode, raising nothing but `EventError`; a whole number may be written 3.0, which is one number to JSON."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as err:
        if not needs_lenience(err):
            raise explained(err, raw, pointer) from None
    try:
        return decoder.decode(msgspec.json.encode(_whole(msgspec.json.decode(raw))))
    except (msgspec.DecodeError, ValueError, RecursionError) as err:
        raise explained(err, raw, pointer) from None


def needs_lenience(err: Exception) -> bool:
    """Whether a strict decoder's complaint may be none: an unknown field, or a whole number written as 3.0."""
    message = str(err)
    return isinstance(err, msgspec.ValidationError) and ("unknown field" in message or "got `float`" in message)


def explained(err: Exception, raw: bytes | Raw, prefix: str = "") -> EventError:
    """Turn a decoder's complaint about `raw`, which stands at pointer `prefix`, into field, value and remedy."""
    if isinstance(err, RecursionError):
        return EventError("the JSON is nested too deeply: flatten it", pointer=prefix, code="too_deep")
    if not isinstance(err, msgspec.ValidationError):
        return EventError(f"this is not JSON in UTF-8: {err}", pointer=prefix, code="malformed_json")
    message = str(err)
    place = _AT.search(message)
    steps = [index or name for index, name in _STEP.findall(place.group(1))] if place else []
    pointer = prefix + "".join("/" + escaped(s) for s in steps if s != "...")
    complaint = message[: place.start()] if place else message
    if missing := _MISSING.search(complaint):
        name = missing.group(1)
        return EventError(f"{name} is missing{_so(name)}", pointer=f"{pointer}/{name}", code="field_missing")
    what = pointer[1:].replace("/", ".") or "this"
    field = next((s for s in reversed(steps) if not s.isdigit() and s != "..."), "")
    complaint = complaint.replace("`", "'").replace("Expected", "expected")
    return EventError(f"{what} is {_found(raw, steps)}: {complaint}{_so(field)}", pointer=pointer, code="invalid_value")


def _whole(value: Any) -> Any:
    """Return a JSON value with its whole floats as integers."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    return [_whole(inner) for inner in value] if isinstance(value, list) else value


def plain(value: str, pointer: str) -> str:
    """Return a text, or raise `EventError` where it has control characters."""
    if not value.isprintable() and _CONTROL.search(value):
        detail = f"{pointer[1:]} is {shown(value)}, with control characters: send plain text"
        raise EventError(detail, pointer=pointer, code="control_characters")
    return value


def shown(value: object) -> str:
    """Return a value for a message: short, ASCII, containers named only."""
    kind = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else ascii(value)
    return kind if len(kind) <= 80 else f"{kind[:60]}… ({len(kind):,} characters)"


def escaped(step: str) -> str:
    """Return one step of a JSON pointer (RFC 6901)."""
    return step.replace("~", "~0").replace("/", "~1")


def _so(field: str) -> str:
    """Return the remedy for a field, as the end of a sentence."""
    remedy = REMEDIES.get(field) or ("send 1 to 256 characters" if field.endswith("_id") else "")
    return f"; {remedy}" if remedy else ""


def _found(raw: bytes | Raw, steps: Sequence[str]) -> str:
    """Return the offending value, shortened."""
    try:
        value = msgspec.json.decode(raw)
        for step in steps:
            value = value[int(step)] if isinstance(value, list) else value[step]
    except (msgspec.DecodeError, ValueError, LookupError, TypeError, RecursionError):
        return "not acceptable"
    return shown(value)
