"""Token ids survive the wire, and what is not token ids is refused by name."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RemoteProtocolError
from shared.protocol.token_ids import (
    count_rated_ids,
    count_token_ids,
    pack_id_set,
    pack_rated_ids,
    pack_token_ids,
    unpack_id_set,
    unpack_rated_ids,
    unpack_token_ids,
    unpack_token_list,
)

VOCAB_SIZE = 1 << 24

narrow_ids = st.lists(st.integers(0, (1 << 16) - 1))
wide_ids = st.lists(st.integers(0, VOCAB_SIZE - 1))


@given(narrow_ids | wide_ids)
def test_ids_come_back_as_they_went(token_ids: list[int]) -> None:
    packed = pack_token_ids(token_ids)
    assert array("I", token_ids) == unpack_token_ids(packed, VOCAB_SIZE)
    assert token_ids == unpack_token_list(packed, VOCAB_SIZE)


@given(narrow_ids | wide_ids)
def test_an_array_packs_like_a_list(token_ids: list[int]) -> None:
    assert pack_token_ids(token_ids) == pack_token_ids(array("I", token_ids))


@pytest.mark.parametrize(
    ("token_ids", "packed"),
    [
        ([], ""),
        ([0], "0000"),
        ([1, 0x1234, 0xFFFF], "0100 3412 ffff"),
        ([0xABCDEF], "efcdab"),
        ([1, 0x10000], "010000 000001 00"),
        ([1, 2, 0x10000], "010000 020000 000001"),
    ],
)
def test_ids_are_little_endian_in_two_bytes_or_three(token_ids: list[int], packed: str) -> None:
    assert len(token_ids) == count_token_ids(bytes.fromhex(packed))
    assert bytes.fromhex(packed) == pack_token_ids(token_ids)
    assert token_ids == unpack_token_ids(bytes.fromhex(packed), VOCAB_SIZE).tolist()


@pytest.mark.parametrize(
    ("packed", "sentence"),
    [
        ("00", "token ids of 1 bytes are malformed"),
        ("010000 000001 01", "token ids of 7 bytes are malformed"),  # no padding
        ("010000 0000", "token ids of 5 bytes are malformed"),
        ("0a00", "token id 10 is outside the vocabulary of 10"),
        ("000000 ffffff 00", "token id 16777215 is outside the vocabulary of 10"),
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
    assert all(token_id < vocab_size for token_id in unpacked)


@pytest.mark.parametrize(
    ("token_ids", "ranges"),
    [
        (set(), []),
        ({0}, [0, 0]),
        ({7, 5, 6}, [5, 7]),
        ({0, 1, 3, 70_000, 70_001}, [0, 1, 3, 3, 70_000, 70_001]),
    ],
)
def test_a_set_of_ids_is_the_ends_of_its_ranges(token_ids: set[int], ranges: list[int]) -> None:
    assert pack_token_ids(ranges) == pack_id_set(token_ids)


@given(st.frozensets(st.integers(0, VOCAB_SIZE - 1) | st.integers(0, 40)), st.integers(0, 50))
def test_a_set_of_ids_comes_back_as_far_as_the_vocabulary_goes(
    token_ids: frozenset[int], vocab_size: int
) -> None:
    packed = pack_id_set(token_ids)
    assert token_ids == unpack_id_set(packed, VOCAB_SIZE)
    assert {i for i in token_ids if i < vocab_size} == unpack_id_set(packed, vocab_size)


@pytest.mark.parametrize("ranges", [[1], [1, 2, 3], [2, 1], [5, 6, 1, 2]])
def test_malformed_ranges_are_refused(ranges: list[int]) -> None:
    with pytest.raises(RemoteProtocolError, match="ranges of token ids of"):
        unpack_id_set(pack_token_ids(ranges), VOCAB_SIZE)


def test_many_special_ids_of_a_large_vocabulary_are_few_bytes() -> None:
    assert 4 == len(pack_id_set(range(6, 6_300)))


# --- ids with a byte each ---------------------------------------------------------------------


@given(narrow_ids | wide_ids)
def test_rated_ids_come_back_as_they_went(token_ids: list[int]) -> None:
    ratings = bytes([i % 256 for i in range(len(token_ids))])
    packed = pack_rated_ids(token_ids, ratings)
    assert len(token_ids) == count_rated_ids(packed)
    assert (token_ids, ratings) == unpack_rated_ids(packed, VOCAB_SIZE)


@given(narrow_ids | wide_ids)
def test_a_rating_costs_one_byte_and_no_padding_more(token_ids: list[int]) -> None:
    plain, rated = pack_token_ids(token_ids), pack_rated_ids(token_ids, bytes(len(token_ids)))
    assert len(rated) - len(plain) <= len(token_ids) + 1
    if max(token_ids, default=0) < 1 << 16:
        assert len(rated) - len(plain) == len(token_ids)


@pytest.mark.parametrize(
    ("packed", "sentence"),
    [
        ("00", "rated token ids of 1 bytes are malformed"),
        ("0000", "rated token ids of 2 bytes are malformed"),
        ("000000 00 000000", "rated token ids of 7 bytes are malformed"),
        ("0100" * 8 + "01", "rated token ids of 17 bytes are malformed"),
        ("010000" * 3 + "050505 01", "rated token ids of 13 bytes are malformed"),  # no padding
        ("0a00 05", "token id 10 is outside the vocabulary of 10"),
        ("0a0000 05", "token id 10 is outside the vocabulary of 10"),
    ],
)
def test_what_is_no_rated_ids_is_refused(packed: str, sentence: str) -> None:
    with pytest.raises(RemoteProtocolError) as error:
        unpack_rated_ids(bytes.fromhex(packed), 10)
    assert sentence == str(error.value)


@given(st.binary(max_size=40))
def test_any_bytes_are_rated_ids_or_a_protocol_error(packed: bytes) -> None:
    try:
        token_ids, ratings = unpack_rated_ids(packed, 300)
    except RemoteProtocolError:
        return
    assert len(token_ids) == len(ratings) == count_rated_ids(packed)
    assert all(token_id < 300 for token_id in token_ids)
