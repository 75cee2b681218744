"""Masks of grammars at a worker: the verifier makes them, the worker asks when it draws.

One question for each round that needs any, asked when its logits are on their way, as a target in
the verifier's own process waits for its masks then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from shared.errors import RemoteProtocolError
from verifier.target.token_masks import PackedMasks, TokenMasks
from verifier.workers.columns import unpacked
from verifier.workers.messages import Masks

MAX_ROWS = 1 << 12  # of one check


class RoundMasks:
    """All masks of one round; the first check that waits asks for all of them."""

    def __init__(self, ask: Callable[[], Masks], num_words: int) -> None:
        """`ask` sends the question and returns the answer; masks have so many words of 32 bits."""
        self._ask = ask
        self._num_words = num_words
        self._answer: Masks | None = None

    def at(self, index: int) -> TokenMasks:
        """Those of the n-th check with a grammar."""
        return _CheckMasks(self, index)

    def of_check(self, index: int) -> PackedMasks | None:
        """What there is of them, or None: there never will be any."""
        if self._answer is None:
            self._answer = self._ask()
        answer = self._answer
        if index >= len(answer.of_checks):
            raise RemoteProtocolError(f"masks of {len(answer.of_checks)} checks came, not more")
        content = answer.of_checks[index]
        if content is None:
            return None
        if answer.num_words != self._num_words and content:
            raise RemoteProtocolError(f"masks of {answer.num_words} words, not {self._num_words}")
        words = unpacked(content, "<u4", "masks")
        if len(words) % self._num_words or len(words) > MAX_ROWS * self._num_words:
            raise RemoteProtocolError(f"masks of {len(words)} words do not come out even")
        return words.astype(np.uint32, copy=False).reshape(-1, self._num_words)


class _CheckMasks:
    """Implements `TokenMasks` at a worker."""

    def __init__(self, masks: RoundMasks, index: int) -> None:
        self._masks, self._index = masks, index

    def begin(self) -> None:
        """The verifier has begun when it sent the round."""

    def wait(self, deadline: float) -> PackedMasks | None:
        """See `TokenMasks.wait`; the verifier keeps the deadline."""
        return self._masks.of_check(self._index)

    def advance(self, token_ids: Sequence[int], seconds: float) -> tuple[int, ...]:
        """The verifier advances its grammars itself."""
        raise AssertionError("a worker has no grammar")


def pack_masks(masks: Sequence[TokenMasks], deadline: float, num_words: int) -> Masks:
    """Those of a round, as far as they are ready by the deadline."""
    ready = [one.wait(deadline) for one in masks]
    contents = [
        None if rows is None else rows.astype("<u4", copy=False).tobytes() for rows in ready
    ]
    return Masks(num_words, tuple(contents))


def num_mask_words(vocab_size: int) -> int:
    """Words of 32 bits in a mask of so many tokens."""
    return -(-vocab_size // 32)
