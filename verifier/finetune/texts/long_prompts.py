"""Long prompts made of short ones, so that a draft learns to look far back.

Behind several prompts the target answers the last one; files of prompts seldom have contexts as
long as those of boards that summarise or look things up. Pure.
"""

from __future__ import annotations

import itertools
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

    `words`: of prompts, of which none is longer than that; `between`: what stands between two. The
    longer a prompt, the more often it is taken: what it asks is more often of a text that it holds.
    """
    chance, rows = random.Random(seed), []
    upto = list(itertools.accumulate(map(len, words)))
    for _ in range(num_prompts):
        num_tokens = chance.randint(-(-most_tokens // 2), most_tokens)
        (last,) = chance.choices(words, cum_weights=upto)
        row = list(last)
        while len(row) < num_tokens:
            (one,) = chance.choices(words, cum_weights=upto)
            row = [*one, *between, *row]
        rows.append(row[-max(num_tokens, len(last)) :])
    return rows
