"""How the drafts of a round are shared, and what one stream gets: values of `schedule`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from verifier.streams.stream import Stream


class Grant(msgspec.Struct, frozen=True, gc=False):
    """What one stream's board may do next."""

    draft_length: int  # tokens that one Draft should hold
    window: int  # tokens beyond the committed position; draft-ahead is a window above the length
    awaited_seconds: float = 0.0  # how long the stream may sit out for a whole draft; 0: not at all


class StreamPlan(NamedTuple):
    """What one stream's next grant is made of."""

    length: int  # of its next draft, as the policy has it; 0: none
    awaited_length: int  # of the draft that it should sit out for where nothing of it is here
    longest_awaited: int = 0  # that it may be where its board stops by itself
    depth: int | None = None  # how far its board may draft; None: as its length asks for
    least_survival: float = 0.0  # where its board should stop; 0: nowhere


class DraftPlan(msgspec.Struct, frozen=True):
    """How the drafts of one round are shared."""

    budget_tokens: int
    num_streams: int  # with a token each in the round
    context_tokens: float  # of all of them
    round_seconds: float  # of that round, without drafts
    token_seconds: float  # that a draft token adds to it
    streams: Mapping[int, StreamPlan]  # by number: those whose boards can draft
    devices: frozenset[str]  # of all streams in the round
    rest_sentence: str | None = None  # why boards rest whose lengths no request fixes; None: no
    holds_rounds: bool = False  # until the drafts are here that streams sit out for

    @property
    def num_draft_tokens(self) -> int:
        """What the streams may draft together."""
        return sum([plan.length for plan in self.streams.values()])

    def lets_rest(self, stream: Stream) -> bool:
        """Whether the stream's board is to draft nothing until it is told to."""
        return self.rest_sentence is not None and stream.request.draft_length is None


NOTHING = StreamPlan(0, 0)
NO_DRAFTS = Grant(0, 0)
NO_PLAN = DraftPlan(0, 0, 0.0, 0.0, 0.0, MappingProxyType({}), frozenset())
