"""The `after` token is opaque, and a mangled one is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import BadRequest
from serving.tokens import After, decode_after, encode_after, log_hash

int64 = st.integers(-(2**63), 2**63 - 1)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**16 - 1), int64)
def test_a_token_says_what_was_put_into_it(log: int, partition: int, position: int) -> None:
    after = After(log, partition, position)
    assert decode_after(encode_after(after)) == after


@given(st.text(max_size=40))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        decode_after(text)


def test_one_changed_character_is_noticed() -> None:
    token = encode_after(After(log_hash("log"), 3, 12345))
    for place, letter in enumerate(token):
        changed = token[:place] + ("A" if letter != "A" else "B") + token[place + 1 :]
        with pytest.raises(BadRequest):
            decode_after(changed)
