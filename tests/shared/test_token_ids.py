"""Token ids survive the wire, and what is not token ids is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RemoteProtocolError
from shared.token_ids import pack_token_ids, unpack_token_ids

VOCAB_SIZE = 1 << 24

narrow_ids = st.lists(st.integers(0, (1 << 16) - 1))
wide_ids = st.lists(st.integers(0, VOCAB_SIZE - 1))


@given(narrow_ids | wide_ids)
def test_ids_come_back_as_they_went(token_ids: list[int]) -> None:
    unpacked = unpack_token_ids(pack_token_ids(token_ids), VOCAB_SIZE)
    assert np.uint32 == unpacked.dtype
    assert token_ids == unpacked.tolist()


@given(narrow_ids | wide_ids)
def test_an_array_packs_like_a_list(token_ids: list[int]) -> None:
    assert pack_token_ids(token_ids) == pack_token_ids(np.array(token_ids, dtype=np.uint32))


@pytest.mark.parametrize(
    ("token_ids", "packed"),
    [
        ([], ""),
        ([0], "02 0000"),
        ([1, 0x1234, 0xFFFF], "02 0100 3412 ffff"),
        ([1, 0x10000], "03 010000 000001"),
        ([0xABCDEF], "03 efcdab"),
    ],
)
def test_ids_are_little_endian_in_two_bytes_or_three(token_ids: list[int], packed: str) -> None:
    assert bytes.fromhex(packed) == pack_token_ids(token_ids)
    assert token_ids == unpack_token_ids(bytes.fromhex(packed), VOCAB_SIZE).tolist()


@pytest.mark.parametrize(
    ("packed", "sentence"),
    [
        ("02", "token ids of 0 bytes with width 2 are malformed"),
        ("03", "token ids of 0 bytes with width 3 are malformed"),
        ("02 00", "token ids of 1 bytes with width 2 are malformed"),
        ("02 0000 00", "token ids of 3 bytes with width 2 are malformed"),
        ("03 0000", "token ids of 2 bytes with width 3 are malformed"),
        ("00 0000", "token ids of 2 bytes with width 0 are malformed"),
        ("01 0000", "token ids of 2 bytes with width 1 are malformed"),
        ("04 00000000", "token ids of 4 bytes with width 4 are malformed"),
        ("02 0a00", "token id 10 is outside the vocabulary of 10"),
        ("03 000000 ffffff", "token id 16777215 is outside the vocabulary of 10"),
    ],
)
def test_malformed_ids_are_refused(packed: str, sentence: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        unpack_token_ids(bytes.fromhex(packed), 10)
    assert sentence == str(caught.value)


def test_the_last_id_of_the_vocabulary_is_inside() -> None:
    assert [9] == unpack_token_ids(pack_token_ids([9]), 10).tolist()


@given(st.binary(max_size=40), st.integers(0, VOCAB_SIZE))
def test_any_bytes_are_ids_of_the_vocabulary_or_a_protocol_error(
    packed: bytes, vocab_size: int
) -> None:
    try:
        unpacked = unpack_token_ids(packed, vocab_size)
    except RemoteProtocolError:
        return
    assert (unpacked < vocab_size).all()
