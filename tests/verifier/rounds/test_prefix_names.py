"""Names of blocks: equal if and only if owner and all tokens up to the block's end are equal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from verifier.rounds.prefix_names import following_names, root_name

token_ids = st.lists(st.sampled_from([1, 2, 256, 2**31]), max_size=12)


def names(owner: str, token_ids: list[int], block_tokens: int) -> list[bytes]:
    return following_names(root_name(owner), token_ids, block_tokens)


def test_only_full_blocks_have_names() -> None:
    assert [0, 0, 1, 1, 2] == [len(names("board", [7] * n, 2)) for n in range(5)]


def test_a_name_is_the_same_in_every_run() -> None:
    (name,) = names("kitchen", [1, 2, 3], 3)
    assert 32 == len(name)
    assert "769b9fb6" == name.hex()[:8]


@given(st.lists(token_ids, min_size=2, max_size=2), st.integers(1, 4), st.sampled_from(["a", "b"]))
def test_names_are_equal_as_far_as_owners_and_tokens_are(
    texts: list[list[int]], block_tokens: int, other_owner: str
) -> None:
    first, second = texts
    firsts, seconds = names("a", first, block_tokens), names(other_owner, second, block_tokens)
    for i, (one, other) in enumerate(zip(firsts, seconds, strict=False)):
        end = (i + 1) * block_tokens
        assert (first[:end] == second[:end] and other_owner == "a") == (one == other)


@given(token_ids, st.integers(1, 4), st.integers(0, 12))
def test_a_chain_may_be_made_in_parts(
    token_ids: list[int], block_tokens: int, num_blocks: int
) -> None:
    middle = num_blocks * block_tokens
    begin = [root_name("board"), *names("board", token_ids[:middle], block_tokens)]
    rest = following_names(begin[-1], token_ids[middle:], block_tokens)
    assert names("board", token_ids, block_tokens) == begin[1:] + rest


def test_an_owner_is_not_a_block() -> None:
    assert len({root_name(""), root_name("a"), *names("", [0], 1), *names("a", [0], 1)}) == 4
