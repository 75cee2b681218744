"""One stream's place in its grammar: goes on with its output, and makes the masks behind a draft.

One thread at a time uses it; whose turn it is, is for `stream_grammar` to say.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
from llguidance import LLExecutor, LLMatcher

from verifier.target.token_masks import PackedMasks

# A job that has taken so long makes no further mask: its round goes on with those it has.
JOB_SECONDS = 0.02
# The library walks over all tokens for a mask, so what it took bounds what any token takes.
CALM_SECONDS = 0.002
# Of what a grammar forces, tested at once.
MOST_FORCED_TOKENS = 32
# The round waits while it is asked what is forced: 0.01 ms, but 1 ms of 50,000 bytes. Who takes
# longer than this is not asked again for so many rounds.
MOST_FORCED_SECONDS = 0.0005
FORCED_PAUSE_ROUNDS = 16

_WORD_BITS = 32


class MatcherState:
    """Where the output stands; once `is_broken`, it stays so."""

    def __init__(self, matcher: LLMatcher, vocab_size: int, end_ids: frozenset[int]) -> None:
        self.num_consumed = 0  # output tokens
        # Of the latest job: processor time of its dearest mask.
        self.most_mask_seconds = math.inf
        self._num_paused_rounds = 0
        self._matcher = matcher
        self._end_ids = end_ids
        self._num_words = -(-vocab_size // _WORD_BITS)
        self._executor: LLExecutor | None = None  # made for grammars that are slow

    @property
    def is_broken(self) -> bool:
        """Whether the grammar is beyond its limits, or the output is not its own."""
        return bool(self._matcher.is_error())

    @property
    def is_calm(self) -> bool:
        """Whether its next step takes no time to speak of."""
        return self.most_mask_seconds < CALM_SECONDS

    def consume(self, token_ids: Sequence[int]) -> bool:
        """Go on behind these tokens of the output; False: they break the grammar."""
        self.num_consumed += len(token_ids)
        return self._consume(token_ids)

    def masks(self, draft_token_ids: Sequence[int]) -> PackedMasks:
        """Masks behind the output and behind each draft token [num_rows, num_words].

        Fewer where they take too long. Rows behind a draft token that may not come, or that ends
        the text, allow everything.
        """
        num_rows = len(draft_token_ids) + 1
        rows = np.full((num_rows, self._num_words), 0xFFFFFFFF, np.uint32)
        started_at = time.monotonic()
        self.most_mask_seconds = 0.0
        num_drafted = 0
        for i in range(num_rows):
            if i and time.monotonic() - started_at > JOB_SECONDS:
                num_rows = i
                break
            self._fill(rows[i])
            if i == len(draft_token_ids) or self.is_broken:
                break
            token_id = draft_token_ids[i]
            word, bit = divmod(token_id, _WORD_BITS)
            # The library takes an end in, but does not count it among what it rolls back.
            if token_id in self._end_ids or not rows[i, word] >> bit & 1:
                break
            if not self._consume((token_id,)):
                break
            num_drafted += 1
        if num_drafted:
            self._matcher.rollback(num_drafted)
        return rows[:num_rows]

    def forced(self) -> tuple[int, ...]:
        """Tokens of the text that the grammar forces now, as the target's tokenizer cuts it."""
        if self._matcher.is_stopped():
            return ()
        if self._num_paused_rounds:
            self._num_paused_rounds -= 1
            return ()
        began_at = time.thread_time()
        token_ids = self._matcher.compute_ff_tokens()[:MOST_FORCED_TOKENS]
        if time.thread_time() - began_at > MOST_FORCED_SECONDS:
            self._num_paused_rounds = FORCED_PAUSE_ROUNDS
        return tuple(token_ids)

    def _fill(self, row: PackedMasks) -> None:
        began_at = time.thread_time()
        self._matcher.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
        self.most_mask_seconds = max(self.most_mask_seconds, time.thread_time() - began_at)

    def _consume(self, token_ids: Sequence[int]) -> bool:
        if self.is_calm:
            return bool(self._matcher.consume_tokens(list(token_ids)))
        # A single call would hold Python's lock for all of its time, and so the event loop.
        if self._executor is None:
            self._executor = LLExecutor(1)
        return all(
            self._executor.consume_token_par([(self._matcher, token_id)])[0]
            for token_id in token_ids
        )
