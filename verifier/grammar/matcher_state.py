"""One stream's place in its grammar: goes on with its output, and makes the masks behind a draft.

One thread at a time uses it; whose turn it is, is for `stream_grammar` to say.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
from llguidance import LLMatcher

from verifier.target.token_masks import PackedMasks

# A job that has taken so long makes no further mask: its round goes on with those it has.
JOB_SECONDS = 0.02
# The library walks over all tokens for a mask, so what it took bounds what any token takes.
CALM_SECONDS = 0.002
# Of what a grammar forces, tested at once.
MOST_FORCED_TOKENS = 32
# What is forced is asked while a round waits: 5 µs where nothing is, up to 0.3 ms where something
# is, 1 ms of 50,000 bytes. What a stream does not spend of its share is left for so many rounds.
SAVED_ROUNDS = 32
# Of forced texts that are shorter the library reads all: it gives up at 50,000 items, and a text
# with 100 of them for each byte is too complex for other reasons.
_LONG_BYTES = 512
# To stand behind the output again with another matcher: 1 to 15 µs for each token.
_MOST_AGAIN_SECONDS = 1.0

_WORD_BITS = 32


class MatcherState:
    """Where the output stands; once `is_broken`, it stays so."""

    def __init__(
        self,
        matcher: Callable[[bool], LLMatcher],
        vocab_size: int,
        end_ids: frozenset[int],
    ) -> None:
        """`matcher` makes one at the beginning of the text; with False, one that never reads ahead.

        The library reads a text that is forced ahead as a whole, and gives up where that is very
        long or has no end. From there on a text goes on with a matcher that looks at one token.
        """
        # Of the latest job: processor time of its dearest mask.
        self.most_mask_seconds = math.inf
        self._unspent_seconds = 0.0  # below 0: nothing is asked
        self._output_ids: list[int] = []  # that were consumed
        self._reads_ahead, self._gave_up_reading, self._is_late = True, False, False
        self._begin = matcher
        self._matcher = matcher(True)
        self._end_ids = end_ids
        self._num_words = -(-vocab_size // _WORD_BITS)

    @property
    def num_consumed(self) -> int:
        """Output tokens."""
        return len(self._output_ids)

    @property
    def is_broken(self) -> bool:
        """Whether the grammar is beyond its limits, or the output is not its own."""
        return self._is_late or bool(self._matcher.is_error())

    @property
    def is_calm(self) -> bool:
        """Whether its next step takes no time to speak of."""
        return self.most_mask_seconds < CALM_SECONDS

    def consume(self, token_ids: Sequence[int]) -> bool:
        """Go on behind these tokens of the output; False: they break the grammar."""
        self._output_ids += token_ids
        return self._consume(token_ids)

    def masks(self, draft_token_ids: Sequence[int]) -> PackedMasks:
        """Masks behind the output and behind each draft token [num_rows, num_words].

        Fewer where they take too long or are more than the library can do. Rows behind a draft
        token that may not come, or that ends the text, allow everything.
        """
        rows = np.full((len(draft_token_ids) + 1, self._num_words), 0xFFFFFFFF, np.uint32)
        self.most_mask_seconds = 0.0
        num_made, num_drafted = self._make(rows, draft_token_ids)
        if self._gave_up_reading:
            # What holds behind the output must hang on no draft.
            self._begin_again(reads_ahead=num_made > 0)
            if not num_made:
                num_made = int(self._fill(rows[0]))
        elif num_drafted and not self.is_broken:
            self._matcher.rollback(num_drafted)
        return rows[:num_made]

    def advance(self, token_ids: Sequence[int], seconds: float) -> tuple[int, ...]:
        """Go on behind these tokens: those that the grammar forces behind them.

        As the target's tokenizer cuts the text. Takes `seconds` for each token that comes of it,
        on an average of many calls; where that is spent, or a step may take long, nothing is done:
        give the tokens to `consume` later.
        """
        unspent = min(self._unspent_seconds + seconds, SAVED_ROUNDS * seconds)
        self._unspent_seconds = unspent
        if unspent < 0.0 or not self.is_calm:
            return ()
        began_at = time.monotonic()
        forced: tuple[int, ...] = ()
        self._output_ids += token_ids
        if self._consume(token_ids) and self._reads_ahead and not self._matcher.is_stopped():
            forced = tuple(self._matcher.compute_ff_tokens()[:MOST_FORCED_TOKENS])
        # With so many rounds less it is paid.
        self._unspent_seconds -= (time.monotonic() - began_at) / (1 + len(forced))
        return forced

    def _make(self, rows: PackedMasks, draft_token_ids: Sequence[int]) -> tuple[int, int]:
        """How many rows hold, and how many drafts the matcher has gone on behind."""
        started_at = time.monotonic()
        for i, row in enumerate(rows):
            if i and time.monotonic() - started_at > JOB_SECONDS:
                return i, i
            if not self._fill(row):
                return i, i
            if i == len(draft_token_ids):
                break
            token_id = draft_token_ids[i]
            word, bit = divmod(token_id, _WORD_BITS)
            # The library takes an end in, but does not count it among what it rolls back.
            if token_id in self._end_ids or not row[word] >> bit & 1:
                break
            if not self._consume((token_id,)):
                return i + 1, i
        return len(rows), i

    def _fill(self, row: PackedMasks) -> bool:
        """Make one mask; False: it broke the matcher."""
        began_at = time.thread_time()
        self._matcher.unsafe_compute_mask_ptr(row.ctypes.data, row.nbytes)
        self.most_mask_seconds = max(self.most_mask_seconds, time.thread_time() - began_at)
        return not self.is_broken and self._can_go_on(row)

    def _can_go_on(self, row: PackedMasks) -> bool:
        """Only with the token behind a forced one the library tells that it gave up reading it."""
        if not self._reads_ahead or len(self._matcher.compute_ff_bytes()) < _LONG_BYTES:
            return True
        words = np.flatnonzero(row)
        allowed = int(row[words[0]])
        if len(words) > 1 or allowed.bit_count() > 1:
            return True
        token_id = _WORD_BITS * int(words[0]) + allowed.bit_length() - 1
        self._gave_up_reading = not self._matcher.consume_token(token_id)
        return not self._gave_up_reading and self._matcher.rollback(1)

    def _begin_again(self, *, reads_ahead: bool) -> None:
        """Put another matcher behind the output, in place of one that gave up reading ahead."""
        self._reads_ahead, self._gave_up_reading = reads_ahead, False
        self._matcher = self._begin(reads_ahead)
        if not reads_ahead:
            self.most_mask_seconds = 0.0  # what took long comes no more
        deadline = time.monotonic() + _MOST_AGAIN_SECONDS
        for token_id in self._output_ids:  # one call for all would hold Python's lock for long
            self._matcher.consume_token(token_id)
            if time.monotonic() > deadline:
                self._is_late = True
                return

    def _consume(self, token_ids: Sequence[int]) -> bool:
        if self.is_calm:
            return bool(self._matcher.consume_tokens(list(token_ids)))
        # A call holds Python's lock for all of its time, and so the event loop: a token in each.
        return all(self._matcher.consume_token(token_id) for token_id in token_ids)
