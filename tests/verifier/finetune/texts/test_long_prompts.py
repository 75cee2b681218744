"""Long prompts are as long as they should be, and end with a whole prompt."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from verifier.finetune.texts.long_prompts import long_prompts

BETWEEN = (-1, -2)


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    most_tokens=st.integers(20, 90),
    seed=st.integers(0, 1000),
)
def test_a_row_ends_with_a_whole_prompt_behind_the_ends_of_others(
    lengths: list[int], most_tokens: int, seed: int
) -> None:
    words = [[number] * length for number, length in enumerate(lengths)]
    for row in long_prompts(words, BETWEEN, 5, most_tokens, seed):
        assert most_tokens / 2 <= len(row) <= most_tokens
        whole = words[row[-1]]
        assert whole == row[-len(whole) :]
        assert len(whole) == len(row) or BETWEEN[1] == row[-len(whole) - 1]


def test_the_same_seed_brings_the_same_rows() -> None:
    words = [[1, 2, 3], [4], [5, 6]]
    assert long_prompts(words, BETWEEN, 4, 30, 7) == long_prompts(words, BETWEEN, 4, 30, 7)
    assert [] == long_prompts(words, BETWEEN, 0, 30, 7)
