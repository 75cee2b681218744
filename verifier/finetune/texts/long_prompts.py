"""Long prompts made of short ones, so that a draft learns to look far back.

Behind several prompts the target answers the last one; files of prompts seldom have contexts as
long as those of boards that summarise or look things up. Pure.
"""

from __future__ import annotations

import random
from collections.abc import Sequence


def long_prompts(
    words: Sequence[Sequence[int]],
    between: Sequence[int],
    num_prompts: int,
    most_tokens: int,
    seed: int,
) -> list[list[int]]:
    """So many rows of half of `most_tokens` to all of them, each with a whole prompt at its end.

    `words`: of prompts, of which none is longer than that; `between`: what stands between two.
    """
    chance = random.Random(seed)
    return [
        _row(words, between, chance.randint(-(-most_tokens // 2), most_tokens), chance)
        for _ in range(num_prompts)
    ]


def _row(
    words: Sequence[Sequence[int]], between: Sequence[int], num_tokens: int, chance: random.Random
) -> list[int]:
    last = list(chance.choice(words))
    row = last
    while len(row) < num_tokens:
        row = [*chance.choice(words), *between, *row]
    return row[-max(num_tokens, len(last)) :]
