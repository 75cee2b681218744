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
    reconciled,
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


# --- ids that one side alone has ---------------------------------------------------------------


def agreed(verifier: list[bytes], agent: list[bytes]) -> tuple[tuple[bytes, ...], str | None]:
    """The agent's vocabulary after all greetings, and what it says where they fail."""
    token_bytes: tuple[bytes, ...] = tuple(agent)
    theirs = fingerprint(verifier)
    for _ in range(100):
        difference = first_difference(theirs, fingerprint(token_bytes), verifier)
        if difference is None:
            return token_bytes, None
        known = reconciled(difference, token_bytes, agent)
        if known is None:
            return token_bytes, explain(difference, agent)
        token_bytes = known
    raise AssertionError("the greetings never end")


@pytest.mark.parametrize("num_ids", [1, 1023, 1024, 1025, 2048, 2400])
def test_a_vocabulary_may_be_the_beginning_of_the_other(num_ids: int) -> None:
    shorter = VOCABULARY[:num_ids]
    assert (tuple(VOCABULARY), None) == agreed(VOCABULARY, shorter)
    known, sentence = agreed(shorter, VOCABULARY)
    assert (shorter, None) == ([token for token in known if token], sentence)


def test_ids_in_the_middle_may_be_one_sided() -> None:
    ours, theirs = with_token(7, b""), with_token(1500, b"")
    assert (tuple(theirs), None) == agreed(theirs, ours)


@pytest.mark.parametrize("token_id", [0, 1023, 1024, 2399])
def test_an_id_of_two_meanings_is_named_before_those_of_one(token_id: int) -> None:
    """Those that only one side has, before and behind it, are no reason."""
    theirs = with_token(token_id, b"other") + [b"more"] * 3000
    ours = VOCABULARY[:2400]
    ours[max(token_id - 1, 0)] = b"" if token_id else ours[0]
    _, sentence = agreed(theirs, ours)
    assert f"token id {token_id} is {VOCABULARY[token_id]!r} here and b'other' there" == sentence


def test_what_another_verifier_had_does_not_hide_a_contradiction() -> None:
    """The board's own vocabulary counts, not the one it greeted with."""
    once = first_difference(fingerprint(VOCABULARY[:10]), b"", VOCABULARY[:10])
    assert once is not None
    known = reconciled(once, VOCABULARY, VOCABULARY)
    assert known == tuple(VOCABULARY[:10])
    other = with_token(12, b"other")
    difference = first_difference(fingerprint(other), fingerprint(known), other)
    assert difference is not None
    assert reconciled(difference, known, VOCABULARY) is None


@pytest.mark.parametrize(
    "difference",
    [
        Difference(1 << 50, (b"a",)),
        Difference(-1, (b"a",)),
        Difference(2, (b"a",) * (BLOCK_IDS + 1)),
        Difference(0, tuple(VOCABULARY[:BLOCK_IDS])),
    ],
)
def test_a_difference_that_cannot_be_or_changes_nothing_is_none(difference: Difference) -> None:
    assert reconciled(difference, VOCABULARY, VOCABULARY) is None


few_meanings = st.lists(st.sampled_from([b"", b"a", b"b"]), max_size=20)


@given(few_meanings, few_meanings)
def test_vocabularies_agree_exactly_where_no_id_has_two_meanings(
    verifier: list[bytes], agent: list[bytes]
) -> None:
    both = list(zip(verifier, agent, strict=False))
    contradictions = [i for i, (one, other) in enumerate(both) if one and other and one != other]
    known, sentence = agreed(verifier, agent)
    if contradictions:
        assert sentence is not None
        assert sentence.startswith(f"token id {contradictions[0]} is ")
    else:
        assert sentence is None
        assert [t for t in verifier if t] == [t for t in known if t]
