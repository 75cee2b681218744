"""Draft distributions survive the wire exactly, and broken ones are refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RemoteProtocolError
from shared.protocol.draft_packing import pack_rows
from shared.protocol.token_ids import pack_token_ids
from shared.protocol.transport import MAX_ROW_ENTRIES
from shared.speculation.quantised_row import SMALLEST_SHARE, quantise
from shared.speculation.sparse_row import WEIGHT_TOTAL, SparseRow
from verifier.streams.draft_arrival import unpack_rows

VOCAB_SIZE = 200_000


def row(entries: dict[int, int]) -> SparseRow:
    return SparseRow(
        token_ids=np.array(list(entries), dtype=np.uint32),
        weights=np.array(list(entries.values()), dtype=np.uint16),
    )


def packed_by_hand(counts: list[int], token_ids: list[int], weights: list[int]) -> bytes:
    return (
        bytes([len(counts), *counts])
        + pack_token_ids(token_ids)
        + np.array(weights, dtype="<u2").tobytes()
    )


def entries_of(rows: tuple[SparseRow, ...]) -> list[list[tuple[int, int]]]:
    return [list(zip(r.token_ids.tolist(), r.weights.tolist(), strict=True)) for r in rows]


@st.composite
def sparse_rows(draw: st.DrawFn) -> SparseRow:
    largest_id = draw(st.sampled_from([100, VOCAB_SIZE - 1]))
    ids = st.lists(st.integers(0, largest_id), min_size=1, max_size=MAX_ROW_ENTRIES, unique=True)
    token_ids = draw(ids)
    weights = draw(
        st.lists(st.integers(1, WEIGHT_TOTAL), min_size=len(token_ids), max_size=len(token_ids))
    )
    return row(dict(zip(token_ids, sorted(weights, reverse=True), strict=True)))


# Unsorted weights of a distribution; the ids are their places.
distributions = st.lists(st.floats(1e-9, 1), min_size=1, max_size=100).map(
    lambda weights: np.sort(np.array(weights) / sum(weights))[::-1]
)


def refusal(packed: bytes, vocab_size: int = 1000) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        unpack_rows(packed, vocab_size)
    return str(caught.value)


# --- on the wire ------------------------------------------------------------------------------


@given(st.lists(sparse_rows(), max_size=8).map(tuple))
def test_rows_come_back_as_they_went(rows: tuple[SparseRow, ...]) -> None:
    assert entries_of(rows) == entries_of(unpack_rows(pack_rows(rows), VOCAB_SIZE))


def test_the_wire_form_is_counts_then_ids_then_weights() -> None:
    packed = pack_rows((row({7: 40_000, 3: 25_535}), row({0x1234: 65_535})))
    assert bytes.fromhex("02 0201 0700 0300 3412 409c bf63 ffff") == packed


def test_an_entry_takes_four_bytes() -> None:
    thirty_two = row(dict.fromkeys(range(32), 100))
    assert 1 + 8 + 8 * 32 * 4 == len(pack_rows((thirty_two,) * 8))


@pytest.mark.parametrize("packed", [b"", b"\x00"])
def test_nothing_and_zero_rows_are_no_rows(packed: bytes) -> None:
    assert () == unpack_rows(packed, 1000)
    assert b"\x00" == pack_rows(())


@pytest.mark.parametrize(
    ("packed", "sentence"),
    [
        (b"\x02\x01", "sparse rows of 2 bytes are too short for 2 rows"),
        (b"\xff", "sparse rows of 1 bytes are too short for 255 rows"),
        (b"\x01\x00", "sparse row of 0 entries is outside 1 to 64"),
        (packed_by_hand([1, 0], [5], [1]), "sparse row of 0 entries is outside 1 to 64"),
        (
            packed_by_hand([65], list(range(65)), [9] * 65),
            "sparse row of 65 entries is outside 1 to 64",
        ),
        (b"\x01\x02\x02\x05", "sparse rows of 4 bytes are too short for 2 entries"),
        (b"\x01\x01", "sparse rows of 2 bytes are too short for 1 entries"),
        (b"\x01\x01\x09", "sparse rows of 3 bytes are too short for 1 entries"),
        (b"\x01\x01\x09\x00", "sparse rows hold 0 token ids for 1 entries"),
        (packed_by_hand([2], [5], [9, 9]), "sparse rows hold 1 token ids for 2 entries"),
        (packed_by_hand([1], [5, 6], [9]), "sparse rows hold 2 token ids for 1 entries"),
        (b"\x00\x05\x00", "sparse rows hold 1 token ids for 0 entries"),
        (
            packed_by_hand([1], [5], [9]) + b"\x00",
            "token id 589829 is outside the vocabulary of 1000",
        ),
        (packed_by_hand([1], [5], [9])[:-1], "token ids of 1 bytes are malformed"),
        (b"\x00\x07", "token ids of 1 bytes are malformed"),
        (packed_by_hand([1], [1000], [9]), "token id 1000 is outside the vocabulary of 1000"),
        (packed_by_hand([3], [5, 6, 5], [9, 9, 9]), "a sparse row names a token id twice"),
        (
            packed_by_hand([2], [5, 6], [9, 0]),
            "sparse row weights must be positive and not increase",
        ),
        (packed_by_hand([1], [5], [0]), "sparse row weights must be positive and not increase"),
        (
            packed_by_hand([1, 2], [5, 5, 6], [9, 8, 9]),
            "sparse row weights must be positive and not increase",
        ),
    ],
)
def test_malformed_rows_are_refused(packed: bytes, sentence: str) -> None:
    assert sentence == refusal(packed)


def test_a_full_row_and_equal_weights_are_allowed() -> None:
    full = packed_by_hand([MAX_ROW_ENTRIES], list(range(MAX_ROW_ENTRIES)), [9] * MAX_ROW_ENTRIES)
    assert [[(token_id, 9) for token_id in range(MAX_ROW_ENTRIES)]] == entries_of(
        unpack_rows(full, 1000)
    )


def test_two_rows_may_name_the_same_token_id() -> None:
    twice = packed_by_hand([1, 2], [5, 5, 6], [9, 9, 8])
    assert [[(5, 9)], [(5, 9), (6, 8)]] == entries_of(unpack_rows(twice, 1000))


@given(st.lists(sparse_rows(), min_size=1, max_size=3).map(tuple), st.data())
def test_rows_that_lost_their_end_are_refused(
    rows: tuple[SparseRow, ...], data: st.DataObject
) -> None:
    packed = pack_rows(rows)
    length = data.draw(st.integers(1, len(packed) - 1))
    try:
        unpacked = unpack_rows(packed[:length], VOCAB_SIZE)
    except RemoteProtocolError:
        return
    # Without a checksum a shorter message can be another valid one, but never of the same rows.
    assert entries_of(rows) != entries_of(unpacked)


@given(st.binary(max_size=60), st.integers(0, 1 << 16))
def test_any_bytes_are_valid_rows_or_a_protocol_error(packed: bytes, vocab_size: int) -> None:
    try:
        rows = unpack_rows(packed, vocab_size)
    except RemoteProtocolError:
        return
    for unpacked in rows:
        assert 1 <= len(unpacked.token_ids) == len(unpacked.weights) <= MAX_ROW_ENTRIES
        assert 1.0 == pytest.approx(unpacked.probs.sum())
        assert (unpacked.token_ids < vocab_size).all()


# --- as a distribution ------------------------------------------------------------------------


def test_probs_are_the_weights_over_their_sum() -> None:
    assert [0.6, 0.3, 0.1] == pytest.approx(row({4: 600, 9: 300, 1: 100}).probs.tolist())


def test_prob_of_a_token_that_the_row_does_not_hold_is_zero() -> None:
    sparse = row({4: 3, 9: 1})
    assert (0.75, 0.25, 0.0) == (sparse.prob_of(4), sparse.prob_of(9), sparse.prob_of(5))


def test_quantise_keeps_the_most_likely_entries() -> None:
    quantised = quantise(np.array([8, 2, 5]), np.array([0.5, 0.3, 0.2]), 2)
    assert [[(8, 40_959), (2, 24_576)]] == entries_of((quantised,))


def test_quantise_of_a_certain_token_gives_it_the_whole_weight() -> None:
    assert [[(8, WEIGHT_TOTAL)]] == entries_of((quantise(np.array([8]), np.ones(1), 32),))


def test_quantise_leaves_out_what_is_far_less_likely_than_the_first() -> None:
    probs = np.array([1.0, SMALLEST_SHARE, SMALLEST_SHARE * 0.99])
    assert [8, 2] == quantise(np.array([8, 2, 5]), probs, 32).token_ids.tolist()


@given(distributions, st.integers(1, MAX_ROW_ENTRIES))
def test_a_quantised_row_is_valid_on_the_wire_and_close_to_what_it_rounds(
    probs: np.ndarray, max_entries: int
) -> None:
    quantised = quantise(np.arange(len(probs)), probs, max_entries)
    (unpacked,) = unpack_rows(pack_rows((quantised,)), VOCAB_SIZE)
    num_entries = len(unpacked.weights)
    assert 1 <= num_entries <= min(max_entries, len(probs))
    kept = probs[:num_entries] / probs[:num_entries].sum()
    assert float(np.abs(unpacked.probs - kept).max()) < num_entries / WEIGHT_TOTAL
