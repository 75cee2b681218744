"""The form of a Draft: which tokens, which rows, and where its chunk ends."""

from __future__ import annotations

import numpy as np
import pytest

from shared.errors import RemoteProtocolError
from shared.protocol.codec import encode
from shared.protocol.draft_packing import make_extension, pack_draft, pack_rows
from shared.protocol.draft_path import DraftToken
from shared.protocol.messages import Draft, RatedDraft
from shared.protocol.token_ids import pack_rated_ids, pack_token_ids
from shared.speculation.confidence import confidence_of_row
from shared.speculation.sparse_row import SparseRow
from verifier.streams.draft_arrival import num_draft_tokens, unpack_draft

VOCAB_SIZE = 10


def row(*token_ids: int) -> SparseRow:
    weights = np.arange(len(token_ids), 0, -1, dtype=np.uint16)
    return SparseRow(token_ids=np.array(token_ids, dtype=np.uint32), weights=weights)


def draft(token_ids: list[int], *rows: SparseRow) -> Draft:
    packed = pack_rows(rows) if rows else b""
    return Draft(channel=3, base=4, offset=2, tokens=pack_token_ids(token_ids), rows=packed)


def shape(message: Draft) -> list[tuple[int, list[int] | None, bool]]:
    """Token id, ids of its row and whether it ends the chunk."""
    extension = unpack_draft(message, VOCAB_SIZE)
    assert (4, 6) == (extension.base, extension.position)
    return [
        (
            token.token_id,
            None if token.row is None else token.row.token_ids.tolist(),
            token.ends_chunk,
        )
        for token in extension.tokens
    ]


def test_without_rows_all_tokens_are_bare() -> None:
    assert [(1, None, False), (2, None, True)] == shape(draft([1, 2]))


def test_every_token_has_its_row() -> None:
    expected = [(1, [1, 5], False), (2, [7, 2], True)]
    assert expected == shape(draft([1, 2], row(1, 5), row(7, 2)))


def test_a_guess_of_the_bonus_comes_first_and_has_no_row() -> None:
    assert [(9, None, False), (1, [1, 5], True)] == shape(draft([9, 1], row(1, 5)))


def test_a_draft_without_tokens_is_a_pass() -> None:
    assert [] == shape(draft([]))


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        [DraftToken(1), DraftToken(2)],
        [DraftToken(1, row(1, 5)), DraftToken(2, row(7, 2))],
        [DraftToken(9), DraftToken(1, row(1, 5))],
    ],
)
def test_what_the_board_packs_the_verifier_unpacks(tokens: list[DraftToken]) -> None:
    sent = make_extension(4, 6, tokens)
    message = pack_draft(3, sent, drafting_seconds=0.25)
    assert (3, 250) == (message.channel, message.drafting_milliseconds)
    expected = [
        (
            token.token_id,
            None if token.row is None else token.row.token_ids.tolist(),
            i == len(tokens) - 1,
        )
        for i, token in enumerate(tokens)
    ]
    assert expected == shape(message)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (draft([1], row(1), row(1)), "2 rows came for 1 draft tokens"),
        (draft([], row(1)), "1 rows came for 0 draft tokens"),
        (draft([1, 2, 3], row(3)), "1 rows came for 3 draft tokens"),
        (draft([1, 2], row(1), row(1)), "the row of draft token 1 does not hold that token"),
        (draft([9, 2], row(1)), "the row of draft token 1 does not hold that token"),
        (draft([10]), "token id 10 is outside the vocabulary of 10"),
        (draft([1], row(1, 10)), "token id 10 is outside the vocabulary of 10"),
    ],
)
def test_what_does_not_belong_together_is_an_error(message: Draft, sentence: str) -> None:
    with pytest.raises(RemoteProtocolError) as error:
        unpack_draft(message, VOCAB_SIZE)
    assert sentence == str(error.value)


# --- how sure the board was -------------------------------------------------------------------


def confidences(message: Draft) -> list[int]:
    return [token.confidence for token in unpack_draft(message, VOCAB_SIZE).tokens]


def test_a_rated_draft_tells_the_confidence_of_each_token() -> None:
    sent = make_extension(4, 6, [DraftToken(1, confidence=200), DraftToken(2, confidence=7)])
    message = pack_draft(3, sent, 0.0, is_rated=True)
    assert isinstance(message, RatedDraft)
    assert [200, 7] == confidences(message)
    assert [(1, None, False), (2, None, True)] == shape(message)
    assert 2 == num_draft_tokens(message)


def test_a_draft_that_is_not_rated_tells_nothing() -> None:
    sent = make_extension(4, 6, [DraftToken(1, confidence=200), DraftToken(2, confidence=7)])
    message = pack_draft(3, sent, 0.0)
    assert Draft is type(message)
    assert [0, 0] == confidences(message)


@pytest.mark.parametrize("num_tokens", [1, 2, 4, 9])
def test_a_rated_draft_is_longer_by_a_byte_for_each_token(num_tokens: int) -> None:
    sent = make_extension(4, 6, [DraftToken(i, confidence=200) for i in range(num_tokens)])
    plain, rated = (pack_draft(3, sent, 0.04, is_rated=is_rated) for is_rated in (False, True))
    assert num_tokens == len(encode(rated)) - len(encode(plain))


def test_a_row_is_its_own_confidence_and_costs_nothing() -> None:
    tokens = [DraftToken(1, row(1, 5), confidence=3), DraftToken(2, row(2, 7), confidence=3)]
    sent = make_extension(4, 6, tokens)
    message = pack_draft(3, sent, 0.0, is_rated=True)
    assert encode(pack_draft(3, sent, 0.0)) == encode(message)
    assert [confidence_of_row(row(1, 5))] * 2 == confidences(message)


def test_a_pass_is_a_plain_draft() -> None:
    assert Draft is type(pack_draft(3, make_extension(4, 6, []), 0.0, is_rated=True))


def test_rows_in_a_rated_draft_are_an_error() -> None:
    message = RatedDraft(3, 4, 2, pack_rated_ids([1], b"\5"), rows=pack_rows((row(1),)))
    with pytest.raises(RemoteProtocolError, match=r"^rows came for draft tokens that are rated$"):
        unpack_draft(message, VOCAB_SIZE)
