"""What a caller asks of /v1/recommendations, by POST or GET. Room: serving, pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Raw, Struct, field

from events.complaints import decode_json, escaped, explained, needs_lenience, plain, shown
from events.errors import EventError
from events.shapes import Id, ItemId, Text

MAX_LIMIT: Final = 500
MAX_BODY: Final = 500_000

Placement = Literal["home", "item", "cart", "search"]


class Ask(Struct, kw_only=True):
    """A request for a slate."""

    placement: Annotated[Placement, Meta(description="where the slate will stand")] = "home"
    customer_id: Id | None = None
    anonymous_id: Id | None = None
    session_id: Id | None = None
    item_ids: Annotated[list[ItemId], Meta(max_length=100, description="the page's item, or the cart")] = []
    query: Annotated[Text | None, Meta(description="what is searched")] = None
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT)] = 10
    exclude_item_ids: Annotated[list[ItemId], Meta(max_length=1_000)] = []
    events: Annotated[
        list[Raw],
        Meta(
            max_length=50,
            description="events that the answer shall reflect; they are not logged: send them to /v1/events too",
        ),
    ] = []
    after: Annotated[str, Meta(max_length=64, description="token of an accepted event")] | None = None
    wait_ms: Annotated[int, Meta(ge=0, le=1_000, description="how long to wait for `after`; 20")] | None = None
    timeout_ms: Annotated[int, Meta(ge=1, le=10_000, description="how long to wait for the store")] | None = None
    context: Raw = field(default_factory=Raw)


class _Strict(Ask, forbid_unknown_fields=True):
    """The quick path."""


class Advice(Struct):
    """A warning about the request: it was answered, but perhaps not as it was meant."""

    pointer: str
    code: str
    detail: str


_strict = msgspec.json.Decoder(_Strict)
_lenient = msgspec.json.Decoder(Ask)
_fields = msgspec.json.Decoder(dict[str, Raw])
_KNOWN: Final = frozenset(Ask.__struct_fields__)
_OBJECT: Final = (b"", b"{", b"n")
_LISTS: Final = ("item_ids", "exclude_item_ids")
_TEXTS: Final = ("customer_id", "anonymous_id", "session_id", "query")

#: Query parameters of GET: all but what needs a body.
PARAMETERS: Final = tuple(name for name in Ask.__struct_fields__ if name not in ("events", "context"))


def decode_ask(body: bytes) -> tuple[Ask, list[Advice]]:
    """Return the request that a body holds, with warnings of fields that are not known.

    Raises
    ------
    EventError
        It cannot be read; field, value and remedy are named.
    """
    ask: Ask
    try:
        ask = _strict.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError) as err:
        if not needs_lenience(err):
            raise explained(err, body) from None
    else:
        return _checked(ask), []
    ask = _checked(decode_json(_lenient, body))
    unknown = [name for name in decode_json(_fields, body) if name not in _KNOWN]
    return ask, [_unknown(name) for name in unknown[:10]]


def ask_of_query(parameters: Sequence[tuple[str, str]]) -> Ask:
    """Return the request that query parameters hold; lists are repeated parameters.

    Raises
    ------
    EventError
        A value cannot be used.
    """
    given: dict[str, object] = {}
    for name, value in parameters:
        if name in _LISTS:
            given.setdefault(name, [])
            items = given[name]
            if isinstance(items, list):
                items.append(value)
        else:
            given[name] = value
    return _checked(_convert(given))


def _convert(given: Mapping[str, object]) -> Ask:
    try:
        return msgspec.convert(given, Ask, strict=False)
    except msgspec.ValidationError as err:
        raise explained(err, msgspec.json.encode(given)) from None


def _checked(ask: Ask) -> Ask:
    for name in _TEXTS:
        plain(getattr(ask, name) or "", f"/{name}")
    for name in _LISTS:
        for index, item_id in enumerate(getattr(ask, name)):
            plain(item_id, f"/{name}/{index}")
    if bytes(ask.context)[:1] not in _OBJECT:
        raise EventError(
            "context is no object: send an object, or leave it out", pointer="/context", code="invalid_value"
        )
    return ask


def _unknown(name: str) -> Advice:
    detail = f"{shown(name)} is not a field of this request and was ignored"
    return Advice("/" + escaped(name[:64]), "unknown_field", detail)
