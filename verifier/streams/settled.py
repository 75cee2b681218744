"""What one round did for one stream: a frozen value between the stream and the planner."""

from __future__ import annotations

import msgspec


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What one round did for one stream."""

    position: int  # before it
    num_accepted: int
    own_token_ids: tuple[int, ...]  # behind the accepted ones
    num_tested: int  # draft tokens of the board
    logprobs: bytes = b""  # packed, of the accepted and the own ones, where asked
    num_forced: int = 0  # the first so many of `own_token_ids` are what a grammar forced

    @property
    def num_tokens(self) -> int:
        """Output tokens that were committed."""
        return self.num_accepted + len(self.own_token_ids)
