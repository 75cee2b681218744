from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drafting import ngram_index
from edge_agent.drafting.ngram_index import Match, NgramIndex

texts = st.lists(st.integers(0, 3), max_size=40)


def searched(text: Sequence[int], ahead: Sequence[int], longest: int) -> Match | None:
    """The longest end of text and ahead that occurs in the text with a follower, the latest one."""
    whole = [*text, *ahead]
    for length in range(min(longest, len(whole)), 0, -1):
        end = whole[-length:]
        for start in range(len(text) - length - 1, -1, -1):
            if end == list(text[start : start + length]):
                return Match(text[start + length], length)
    return None


def index_of(text: Sequence[int], longest: int = 4) -> NgramIndex:
    index = NgramIndex(longest)
    index.extend(text)
    return index


@given(text=texts, ahead=texts, longest=st.integers(0, 5), cut=st.integers(0, 40))
def test_it_finds_what_a_search_of_the_whole_text_finds(
    text: list[int], ahead: list[int], longest: int, cut: int
) -> None:
    index = index_of(text[:cut], longest)
    index.extend(text[cut:])
    assert searched(text, (), longest) == index.find()
    assert searched(text, ahead, longest) == index.find(ahead)
    assert searched(text, (), longest) == index.find()  # looking ahead leaves nothing behind


def test_the_latest_follower_counts() -> None:
    assert Match(7, 2) == index_of([1, 2, 5, 1, 2, 7, 1, 2]).find()


def test_a_longer_match_counts_more_than_a_later_one() -> None:
    assert Match(5, 3) == index_of([9, 1, 2, 5, 1, 2, 7, 9, 1, 2]).find()


def test_a_repetition_goes_on_for_ever() -> None:
    index = index_of([1, 2, 3, 1])
    ahead: list[int] = []
    for _ in range(7):
        match = index.find(ahead)
        assert match is not None
        ahead.append(match.token_id)
    assert [2, 3, 1, 2, 3, 1, 2] == ahead


def test_nothing_is_found_in_nothing() -> None:
    assert None is index_of([]).find()
    assert None is index_of([1]).find([1])
    assert None is index_of([1, 2]).find()


def test_of_a_very_long_prompt_the_end_is_looked_up() -> None:
    index = index_of([1, 2, *([3] * ngram_index.MAX_INDEXED_TOKENS)])
    assert None is index.find([1])
    assert Match(3, 4) == index.find()
