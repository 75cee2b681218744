"""Two ends find out whether they mean the same tokens by the same ids, and where not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.fingerprint import (
    BLOCK_IDS,
    Difference,
    explain,
    fingerprint,
    first_difference,
)

VOCABULARY = [b"<s>", *(f"token {i}".encode() for i in range(1, 2500))]

vocabularies = st.lists(st.binary(max_size=4), max_size=20)


def with_token(token_id: int, token_bytes: bytes) -> list[bytes]:
    changed = list(VOCABULARY)
    changed[token_id] = token_bytes
    return changed


def explained(verifier_vocabulary: list[bytes], agent_vocabulary: list[bytes]) -> str | None:
    """What the agent says after the verifier compared both fingerprints."""
    difference = first_difference(
        fingerprint(verifier_vocabulary), fingerprint(agent_vocabulary), verifier_vocabulary
    )
    return difference and explain(difference, agent_vocabulary)


def test_equal_vocabularies_have_equal_fingerprints() -> None:
    assert explained(VOCABULARY, list(VOCABULARY)) is None
    assert fingerprint(VOCABULARY) == fingerprint(tuple(VOCABULARY))


def test_a_fingerprint_is_pinned() -> None:
    # blake2b-64 of the MessagePack array [b"a", b"bc"]
    assert "922264ce9c161186" == fingerprint([b"a", b"bc"]).hex()


@pytest.mark.parametrize(("num_ids", "num_blocks"), [(0, 0), (1, 1), (1024, 1), (1025, 2)])
def test_a_fingerprint_has_eight_bytes_for_each_block(num_ids: int, num_blocks: int) -> None:
    assert 8 * num_blocks == len(fingerprint(VOCABULARY[:num_ids]))


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
        fingerprint(changed),
        fingerprint(VOCABULARY),
        changed,
    )
    assert Difference(block=2, token_bytes=tuple(changed[2 * BLOCK_IDS :])) == difference


@pytest.mark.parametrize("num_ids", [2048, 2400])
def test_a_longer_vocabulary_differs_at_its_first_further_id(num_ids: int) -> None:
    shorter = VOCABULARY[:num_ids]
    further = f"b'token {num_ids}'"
    assert f"token id {num_ids} is b'' here and {further} there" == explained(VOCABULARY, shorter)
    assert f"token id {num_ids} is {further} here and b'' there" == explained(shorter, VOCABULARY)


@pytest.mark.parametrize("received", [b"", b"\x00" * 3, b"\x00" * 8, b"\x00" * 800])
def test_a_broken_fingerprint_differs_somewhere(received: bytes) -> None:
    ours = fingerprint(VOCABULARY)
    difference = first_difference(ours, received, VOCABULARY)
    assert Difference(block=0, token_bytes=tuple(VOCABULARY[:BLOCK_IDS])) == difference


def test_a_difference_that_this_side_does_not_see_is_still_a_sentence() -> None:
    ours = fingerprint(VOCABULARY)
    longer = first_difference(ours, ours + b"?", VOCABULARY)
    assert longer is not None
    assert "token ids from 3072 on differ" == explain(longer, VOCABULARY)


@given(vocabularies, vocabularies)
def test_fingerprints_are_equal_exactly_where_vocabularies_are(
    one: list[bytes], other: list[bytes]
) -> None:
    def meaning(vocabulary: list[bytes]) -> dict[int, bytes]:
        return {token_id: token for token_id, token in enumerate(vocabulary) if token}

    assert (meaning(one) == meaning(other)) == (explained(one, other) is None)
