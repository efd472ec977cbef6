"""Customer and item values as bytes. Room: feature_store, pure.

A value is one version byte and a msgpack array. Within a version fields are only appended, so an old value decodes with
defaults; another version needs a step in `_UPGRADES`. Encoding is a function of the state alone, so equal states have
equal bytes (the parity check compares bytes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from events.errors import StoreError
from feature_store.customer import Customer
from feature_store.item import ItemState

VERSION: Final = 1
_PREFIX: Final = bytes([VERSION])

#: version -> msgpack of the next version; filled when a layout change cannot be an appended field.
_UPGRADES: Final[dict[int, Callable[[bytes], bytes]]] = {}

_encode = msgspec.msgpack.Encoder().encode
_encode_into = msgspec.msgpack.Encoder().encode_into
_decode_customer = msgspec.msgpack.Decoder(Customer).decode
_decode_item = msgspec.msgpack.Decoder(ItemState).decode


def encode_customer(customer: Customer) -> bytes:
    return _PREFIX + _encode(customer)


def decode_customer(value: bytes) -> Customer:
    """Return the customer of a stored value of any version.

    Raises
    ------
    StoreError
        The value is of a newer version, or not a customer value.
    """
    try:
        return _decode_customer(_current(value))
    except msgspec.DecodeError as err:
        raise StoreError(f"not a customer value ({err}): was this key written by Kairos?") from err


def encode_item(item: ItemState) -> bytes:
    return _PREFIX + _encode(item)


def decode_item(value: bytes) -> ItemState:
    """Return the item state of a stored value; raises as `decode_customer`."""
    try:
        return _decode_item(_current(value))
    except msgspec.DecodeError as err:
        raise StoreError(f"not an item value ({err}): was this key written by Kairos?") from err


def _current(value: bytes) -> bytes:
    version, body = value[:1], value[1:]
    if version == _PREFIX:
        return body
    step = version[0] if version else 0
    while step != VERSION:
        upgrade = _UPGRADES.get(step)
        if upgrade is None:
            raise StoreError(
                f"value of version {step}, this Kairos reads up to {VERSION}: run the version that wrote it"
            )
        body, step = upgrade(body), step + 1
    return body
