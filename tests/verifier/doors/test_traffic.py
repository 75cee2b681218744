"""Batches between the verifier and its doors: whatever way they are cut, each comes whole."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RemoteProtocolError
from shared.protocol.messages import MAX_MESSAGE_BYTES
from verifier.doors.board_socket import Frame
from verifier.doors.traffic import (
    BATCH_BYTES,
    CREDIT_BYTES,
    MAX_BATCH_BYTES,
    BatchPacker,
    BatchReader,
    Entry,
    FromDoor,
    cost_of,
)

ENTRIES = st.tuples(
    st.integers(0, 1 << 40), st.integers(0, 8), st.integers(0, 1 << 40), st.binary(max_size=300)
)


def packed(entries: list[Entry]) -> bytes:
    packer = BatchPacker()
    for entry in entries:
        packer.add(entry)
    return packer.take()


@given(st.lists(st.lists(ENTRIES, min_size=1), min_size=1, max_size=4), st.data())
def test_batches_come_whole_however_they_are_cut(
    batches: list[list[Entry]], data: st.DataObject
) -> None:
    stream = b"".join(packed(batch) for batch in batches)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=5).map(sorted))
    reader, read = BatchReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        read += list(reader.read(stream[start:end]))
    assert batches == read


def test_a_packer_begins_anew_after_each_batch() -> None:
    packer = BatchPacker()
    assert not packer
    packer.add((1, 0, 0, b"one"))
    assert packer
    packer.take()
    assert not packer
    packer.add((1, 0, 0, b"two"))
    assert [[(1, 0, 0, b"two")]] == list(BatchReader().read(packer.take()))


def test_a_batch_is_full_long_before_it_is_too_long() -> None:
    packer = BatchPacker()
    longest = bytes(2 * MAX_MESSAGE_BYTES)
    while not packer.add((1, 0, 0, longest)):
        pass
    size = len(packer.take())
    assert BATCH_BYTES <= size <= MAX_BATCH_BYTES


@pytest.mark.parametrize(
    ("stream", "sentence"),
    [
        (struct.pack("<I", MAX_BATCH_BYTES + 1), "a batch of 4194305 bytes exceeds 4194304"),
        (struct.pack("<I", 1) + b"\xc1", "a batch is none of ours"),
        (struct.pack("<I", 3) + b"\x91\x91\x00", "a batch is none of ours"),
    ],
)
def test_what_is_no_batch_is_refused(stream: bytes, sentence: str) -> None:
    with pytest.raises(RemoteProtocolError, match=sentence):
        list(BatchReader().read(stream))


def test_frames_have_the_same_numbers_on_both_sides() -> None:
    assert [(frame.name, frame.value) for frame in Frame] == [
        (kind.name, kind.value) for kind in FromDoor if kind <= FromDoor.BROKEN
    ]


def test_credit_is_for_at_least_one_of_the_longest_messages_and_for_a_boards_drafts() -> None:
    drafts_of_a_round = 64 * cost_of(bytes(1300))
    assert drafts_of_a_round < CREDIT_BYTES
