"""Drafts as they come in: what is cheap to check is checked before rows are unpacked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.errors import RemoteProtocolError
from shared.protocol.draft_packing import pack_rows
from shared.protocol.messages import Draft
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.sparse_row import SparseRow
from tests.support.ends.planning import live_ids, make_stream
from verifier.streams.draft_arrival import take_draft
from verifier.streams.stream import Stream

VOCAB_SIZE = 100
BROKEN_ROW = b"\x01\x40"  # 64 entries, none of which is there


def running(mode: str = "rejection", window: int = 10) -> Stream:
    """A stream that has committed 3 tokens, whose path began there."""
    stream = make_stream(mode=mode, max_output_tokens=50)
    stream.take_up_again((21, 22, 23))
    stream.board_is_ready = True
    stream.grant(4, window, now=0.0)
    return stream


def row(token_id: int) -> SparseRow:
    return SparseRow(np.array([token_id], dtype=np.uint32), np.array([9], dtype=np.uint16))


def message(
    *token_ids: int, base: int = 3, offset: int = 0, rows: bytes | None = None, **changes: Any
) -> Draft:
    if rows is None:
        rows = pack_rows(tuple(row(token_id) for token_id in token_ids)) if token_ids else b""
    return Draft(0, base, offset, pack_token_ids(token_ids), rows=rows, **changes)


def take(stream: Stream, draft: Draft) -> None:
    take_draft(stream, draft, VOCAB_SIZE, 1.0)


def test_a_coupled_draft_has_no_rows() -> None:
    with pytest.raises(RemoteProtocolError, match="a coupled draft came with 2 rows"):
        take(running("coupled"), message(31, 32))


def test_only_the_first_token_of_a_rejection_draft_may_be_without_a_row() -> None:
    stream = running()
    take(stream, message(31, 32, 33, rows=pack_rows((row(32), row(33)))))
    assert [31, 32, 33] == live_ids(stream)
    with pytest.raises(RemoteProtocolError, match="3 tokens came with 1 rows"):
        take(stream, message(34, 35, 36, offset=3, rows=pack_rows((row(34),))))
    with pytest.raises(RemoteProtocolError, match="2 rows came for 1 draft tokens"):
        take(stream, message(34, offset=3, rows=pack_rows((row(34), row(35)))))


def test_a_pass_has_neither_tokens_nor_rows() -> None:
    stream = running()
    take(stream, message())
    assert stream.path.has_passed


def test_of_a_path_that_is_dead_nothing_is_unpacked() -> None:
    stream = running()
    stream.board_is_ready = False
    before = stream.path
    take(stream, message(31, base=2, rows=BROKEN_ROW, drafting_milliseconds=500))
    assert stream.path is before
    assert (True, 0.5) == (stream.board_is_ready, stream.estimates.speed.draft_token_seconds)
    assert 1 == stream.device_estimates.windows.num_dead_tokens


@pytest.mark.parametrize(
    ("draft", "sentence"),
    [
        (message(31, base=4, rows=BROKEN_ROW), "draft base 4 is ahead of 3"),
        (message(31, offset=1, rows=BROKEN_ROW), "draft at 4 leaves a gap after 3"),
        (message(*[31] * 11, rows=b"\x0b" + b"\x40" * 11), "draft up to 14 exceeds the window"),
    ],
)
def test_what_fits_no_place_is_refused_for_that_before_anything_is_unpacked(
    draft: Draft, sentence: str
) -> None:
    with pytest.raises(RemoteProtocolError, match=sentence):
        take(running(), draft)


def test_rows_are_unpacked_once_however_often_they_come() -> None:
    stream = running()
    take(stream, message(31, 32))
    first = stream.path.live
    rows = pack_rows((row(50), row(51), row(33)))  # the known ones do not even hold their tokens
    take(stream, message(31, 32, 33, rows=rows))
    assert [31, 32, 33] == live_ids(stream)
    assert first == stream.path.live[:2]
    last = stream.path.live[2].row
    assert last is not None
    assert [33] == last.token_ids.tolist()


def test_a_row_that_is_broken_is_refused_where_it_would_count() -> None:
    with pytest.raises(RemoteProtocolError, match="too short for 64 entries"):
        take(running(), message(31, rows=BROKEN_ROW))
