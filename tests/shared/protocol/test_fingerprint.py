"""Two ends find out whether they mean the same tokens by the same ids, and where not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ErrorCode
from shared.protocol.codec import decode_from_verifier, encode
from shared.protocol.fingerprint import (
    BLOCK_IDS,
    Difference,
    explain,
    fingerprint,
    first_difference,
)
from shared.protocol.messages import Error

VOCABULARY = [b"<s>", *(f"token {i}".encode() for i in range(1, 2500))]
SPECIAL_IDS = frozenset({0, 2})

vocabularies = st.lists(st.binary(max_size=4), max_size=20)
special_sets = st.frozensets(st.integers(0, 20), max_size=4)


def with_token(token_id: int, token_bytes: bytes) -> list[bytes]:
    changed = list(VOCABULARY)
    changed[token_id] = token_bytes
    return changed


def explained(
    verifier_vocabulary: list[bytes],
    agent_vocabulary: list[bytes],
    verifier_specials: frozenset[int] = SPECIAL_IDS,
    agent_specials: frozenset[int] = SPECIAL_IDS,
) -> str | None:
    """What the agent says after the verifier compared both fingerprints."""
    difference = first_difference(
        fingerprint(verifier_vocabulary, verifier_specials),
        fingerprint(agent_vocabulary, agent_specials),
        verifier_vocabulary,
        verifier_specials,
    )
    return difference and explain(difference, agent_vocabulary, agent_specials)


def test_equal_vocabularies_have_equal_fingerprints() -> None:
    assert explained(VOCABULARY, list(VOCABULARY)) is None
    assert fingerprint(VOCABULARY, SPECIAL_IDS) == fingerprint(tuple(VOCABULARY), SPECIAL_IDS)


def test_a_fingerprint_is_pinned() -> None:
    # blake2b-64 of "0,2" and of the MessagePack array [b"a", b"bc"]
    assert "845c67eaab4019fb922264ce9c161186" == fingerprint([b"a", b"bc"], SPECIAL_IDS).hex()


@pytest.mark.parametrize(("num_ids", "num_blocks"), [(0, 0), (1, 1), (1024, 1), (1025, 2)])
def test_a_fingerprint_has_eight_bytes_for_the_specials_and_for_each_block(
    num_ids: int, num_blocks: int
) -> None:
    assert 8 + 8 * num_blocks == len(fingerprint(VOCABULARY[:num_ids], SPECIAL_IDS))


def test_padding_at_the_end_is_left_out() -> None:
    assert explained([*VOCABULARY, b"", b""], [*VOCABULARY, *[b""] * 5000]) is None


def test_an_id_without_bytes_in_the_middle_counts() -> None:
    assert "token id 7 is b'token 7' here and b'' there" == explained(
        with_token(7, b""), VOCABULARY
    )


@pytest.mark.parametrize("token_id", [0, 1023, 1024, 2047, 2048, 2499])
def test_one_differing_id_is_named_with_both_meanings(token_id: int) -> None:
    changed = with_token(token_id, b"other")
    sentence = f"token id {token_id} is {VOCABULARY[token_id]!r} here and b'other' there"
    assert sentence == explained(changed, VOCABULARY)


def test_only_the_first_differing_block_travels() -> None:
    changed = with_token(2100, b"other")
    difference = first_difference(
        fingerprint(changed, SPECIAL_IDS),
        fingerprint(VOCABULARY, SPECIAL_IDS),
        changed,
        SPECIAL_IDS,
    )
    assert Difference(block=2, token_bytes=tuple(changed[2 * BLOCK_IDS :])) == difference


@pytest.mark.parametrize("num_ids", [2048, 2400])
def test_a_longer_vocabulary_differs_at_its_first_further_id(num_ids: int) -> None:
    shorter = VOCABULARY[:num_ids]
    further = f"b'token {num_ids}'"
    assert f"token id {num_ids} is b'' here and {further} there" == explained(VOCABULARY, shorter)
    assert f"token id {num_ids} is {further} here and b'' there" == explained(shorter, VOCABULARY)


def test_a_special_id_that_is_ordinary_there_is_named() -> None:
    more = SPECIAL_IDS | {9}
    assert "token id 9 is special here and ordinary there" == explained(
        VOCABULARY, VOCABULARY, SPECIAL_IDS, more
    )
    assert "token id 9 is ordinary here and special there" == explained(
        VOCABULARY, VOCABULARY, more, SPECIAL_IDS
    )


def test_a_difference_in_tokens_comes_before_one_in_specials() -> None:
    sentence = explained(with_token(5, b"x"), VOCABULARY, frozenset(), SPECIAL_IDS)
    assert "token id 5 is b'token 5' here and b'x' there" == sentence


@pytest.mark.parametrize("received", [b"", b"\x00" * 3, b"\x00" * 8, b"\x00" * 800])
def test_a_broken_fingerprint_differs_somewhere(received: bytes) -> None:
    ours = fingerprint(VOCABULARY, SPECIAL_IDS)
    difference = first_difference(ours, received, VOCABULARY, SPECIAL_IDS)
    assert Difference(block=0, token_bytes=tuple(VOCABULARY[:BLOCK_IDS])) == difference


def test_a_difference_that_this_side_does_not_see_is_still_a_sentence() -> None:
    ours = fingerprint(VOCABULARY, SPECIAL_IDS)
    longer = first_difference(ours, ours + b"?", VOCABULARY, SPECIAL_IDS)
    specials = first_difference(ours, b"?" * 8 + ours[8:], VOCABULARY, SPECIAL_IDS)
    assert longer is not None
    assert specials is not None
    assert "token ids from 3072 on differ" == explain(longer, VOCABULARY, SPECIAL_IDS)
    assert "the special token ids differ" == explain(specials, VOCABULARY, SPECIAL_IDS)


@given(vocabularies, vocabularies, special_sets, special_sets)
def test_fingerprints_are_equal_exactly_where_vocabularies_are(
    one: list[bytes],
    other: list[bytes],
    one_specials: frozenset[int],
    other_specials: frozenset[int],
) -> None:
    def meaning(vocabulary: list[bytes]) -> dict[int, bytes]:
        return {token_id: token for token_id, token in enumerate(vocabulary) if token}

    same = meaning(one) == meaning(other) and one_specials == other_specials
    assert same == (explained(one, other, one_specials, other_specials) is None)


def test_any_number_of_special_ids_fits_into_the_error() -> None:
    special_ids = frozenset(range(100_000, 140_000))
    ours, theirs = fingerprint([b"x"], special_ids), fingerprint([b"x"], special_ids | {7})
    difference = first_difference(ours, theirs, [b"x"], special_ids)
    assert difference is not None
    error = Error(code=ErrorCode.VOCABULARY, sentence="", difference=difference)
    assert error == decode_from_verifier(encode(error))
    assert "token id 7 is special here and ordinary there" == explain(
        difference, [b"x"], special_ids | {7}
    )
