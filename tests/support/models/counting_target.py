"""A target whose next token hangs on the number of tokens before it, in no time but what it sleeps.

However long a context is: what a round costs beside the target shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from verifier.target.round import ItemOutcome, Round, RoundItem, RoundOutcome

VOCAB_SIZE = 64


def next_token(num_tokens: int) -> int:
    """What follows so many tokens; never an end."""
    return 1 + num_tokens * 7 % (VOCAB_SIZE - 1)


class CountingTarget:
    """Implements `verifier.target.target.TargetModel`; drafts are never accepted.

    It checks that every token of a stream is read once and in order.
    """

    def __init__(
        self,
        context_tokens: int,
        cache_tokens: int,
        seconds: Callable[[Round], float],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.model_name = "counting"
        self.vocab_size = VOCAB_SIZE
        self.block_tokens = 16
        self.num_blocks = cache_tokens // self.block_tokens
        self.context_tokens = context_tokens
        self._seconds = seconds
        self._sleep = sleep
        self._num_read: dict[int, int] = {}

    def run(self, round_: Round) -> RoundOutcome:
        """Run one round; see `verifier.target.target.TargetModel.run`."""
        seconds = self._seconds(round_)
        self._sleep(seconds)
        return RoundOutcome(tuple(self._run(item) for item in round_.items), seconds, 0.0)

    def _run(self, item: RoundItem) -> ItemOutcome | None:
        num_read = self._num_read.get(item.stream, item.num_cached_tokens)
        assert num_read == item.num_cached_tokens, "tokens were lost or came twice"
        num_drafted = 0 if item.draft_check is None else len(item.draft_check.draft_token_ids)
        self._num_read[item.stream] = item.context_tokens - num_drafted
        if item.draft_check is None:
            return None
        return ItemOutcome(0, next_token(self._num_read[item.stream]))
