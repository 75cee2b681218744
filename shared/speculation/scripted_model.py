"""A language model without weights: logits are a hash of the last few tokens.

The scripted drafter and the scripted target both use it, so that every part of goodspeed runs and
is tested without a GPU, a download or a second of waiting. Its numbers are the same on every
machine: random bits, then nothing but +, ×, ÷ and √, which IEEE 754 rounds in one way. It must
never be offered as a model for people.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SCRIPTED_END_ID = 0
"""The one special token of the scripted vocabulary; targets may take it as the end of a text."""

_CACHE_BYTES = 16 * 1024 * 1024
# The sum of the four 16-bit lanes of a 64-bit draw (Irwin–Hall) is nearly a normal number.
_LANES = 4
_LANE_SUM_MEAN = _LANES * 65535 / 2
_LANE_SUM_DEVIATION = math.sqrt(_LANES * (65536**2 - 1) / 12)
_SYLLABLES = tuple(f"{consonant}{vowel}" for consonant in "bdfgklmnprstvz" for vowel in "aeiou")


class ScriptedModel:
    """A fixed random language model of order `order`, or a perturbed copy of one.

    `sharpness` is the standard deviation of the logits. `disagreement` 0 gives the model of `seed`
    itself, 1 an unrelated one; between them the logits are mixed so that their deviation stays.
    With 64 tokens and sharpness 3, disagreement 0.05, 0.2 and 0.5 mean an acceptance (1 − total
    variation) of 0.95, 0.81 and 0.55, and equal argmaxes for 0.93, 0.73 and 0.43 of all contexts.
    """

    def __init__(
        self,
        vocab_size: int,
        seed: int,
        order: int = 2,
        sharpness: float = 3.0,
        disagreement: float = 0.0,
        disagreement_seed: int = 1,
    ) -> None:
        if vocab_size < 2:
            raise ValueError(f"vocabulary of {vocab_size} tokens is smaller than 2")
        if order < 0:
            raise ValueError(f"order {order} is negative")
        if not 0.0 <= disagreement <= 1.0:
            raise ValueError(f"disagreement {disagreement} is not between 0 and 1")
        self.vocab_size = vocab_size
        self.seed = seed
        self.order = order
        self.sharpness = sharpness
        self.disagreement = disagreement
        self.disagreement_seed = disagreement_seed
        num_cached = max(1, _CACHE_BYTES // (4 * vocab_size))
        self._logits_of_context = functools.lru_cache(maxsize=num_cached)(self._compute)

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The read-only logits [vocab_size] of the token after `tokens` (none are fine)."""
        context_start = max(0, len(tokens) - self.order)
        return self._logits_of_context(tuple(tokens[context_start:]))

    def _compute(self, context: tuple[int, ...]) -> NDArray[np.float32]:
        logits = _noise(self.vocab_size, (self.seed, 0), context)
        if self.disagreement > 0.0:
            unrelated_logits = _noise(
                self.vocab_size, (self.seed, 1, self.disagreement_seed), context
            )
            own_share = math.sqrt(1.0 - self.disagreement * self.disagreement)
            logits = own_share * logits + self.disagreement * unrelated_logits
        rounded = (self.sharpness * logits).astype(np.float32)
        rounded.flags.writeable = False
        return rounded


def scripted_token_bytes(vocab_size: int) -> tuple[bytes, ...]:
    """Readable bytes for every id: `<|end|>` for id 0, words like ` kamo` for the others."""
    return (b"<|end|>", *(_word(token_id) for token_id in range(1, vocab_size)))


def _word(token_id: int) -> bytes:
    syllables = []
    number = token_id - 1
    while True:
        number, syllable_index = divmod(number, len(_SYLLABLES))
        syllables.append(_SYLLABLES[syllable_index])
        if number == 0:
            return (" " + "".join(syllables)).encode()
        number -= 1


def _noise(size: int, stream: tuple[int, ...], context: tuple[int, ...]) -> NDArray[np.float64]:
    entropy = (*stream, len(context), *context)
    draws = np.random.Philox(np.random.SeedSequence(entropy)).random_raw(size)
    lanes = np.asarray(draws).astype("<u8").view("<u2").reshape(size, _LANES)
    sums = lanes.sum(axis=1, dtype=np.int64).astype(np.float64)
    return np.asarray((sums - _LANE_SUM_MEAN) / _LANE_SUM_DEVIATION)
