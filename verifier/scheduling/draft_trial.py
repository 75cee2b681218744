"""Rounds with drafts and rounds without, in blocks that take turns: each two are one log ratio.

What holds anyway comes first, then the other way twice, and so on (ABBA): of each two blocks one
begins with a change, and the first rounds after a change count for nothing. Pure, without a clock:
rounds bring their seconds. This module must never decide what the ratios prove.
"""

from __future__ import annotations

import math
from enum import Enum

from verifier.scheduling.round_facts import RoundFacts


class Arm(Enum):
    """What boards are let do."""

    DRAFTS = "drafts"
    ALONE = "alone"

    @property
    def other(self) -> Arm:
        return Arm.ALONE if self is Arm.DRAFTS else Arm.DRAFTS


class Phase(Enum):
    """What a block is at."""

    SETTLING = "settling"  # what was drafted before is used up, or drafts are only on their way
    COUNTING = "counting"


# A block counts so long and so many rounds, or half as many where they are long: with three streams
# its tokens per second are within some 10 %, and little changes from one to the next.
BLOCK_SECONDS = 0.5
BLOCK_ROUNDS = 16
LONG_BLOCK_SECONDS = 1.0
LONG_BLOCK_ROUNDS = 8
# After a change: boards hear of it, catch up with the text and send their first drafts.
SETTLING_ROUNDS = 4
SETTLING_SECONDS = 0.2
MOST_SETTLING_SECONDS = 3.0
# Part of the devices whose drafts must be seen again by then.
DRAFTING_SHARE = 0.75
# Rounds that do not count (prompts, other streams) until two blocks are too far from each other.
MOST_FOREIGN_ROUNDS = 64
# How often two blocks may be begun anew before it is given up.
MOST_RESTARTS = 4


class DraftTrial:
    """Mutable state of blocks in turn; the owner ends it."""

    def __init__(self, settled: Arm) -> None:
        self._settled = settled
        self._place = 0  # of the block that goes on
        self._phase = Phase.COUNTING  # what holds anyway has settled
        self._block = _Block()
        self._first_rate = 0.0  # of the first block of two
        self._num_drafting: int | None = None  # devices, of the latest block with drafts
        self._num_foreign = 0
        self._num_restarts = 0
        self.other_seconds = 0.0
        """In which what held anyway did not hold, or had to settle again."""
        self.num_pairs = 0
        self.alone_rate: float | None = None
        """Tokens per second of a stream in the latest block without drafts."""

    @property
    def arm(self) -> Arm:
        """What boards are to do now."""
        return self._settled if self._place % 4 in (0, 3) else self._settled.other

    @property
    def is_futile(self) -> bool:
        """Whether nothing comes of it: the streams change too often."""
        return self._num_restarts > MOST_RESTARTS

    def observe(self, facts: RoundFacts, *, is_alike: bool) -> float | None:
        """Take a round in; the log ratio of drafts over none, where it completes one.

        `is_alike`: whether the streams are those that are compared.
        """
        if self.arm is not self._settled or self._phase is Phase.SETTLING:
            self.other_seconds += facts.seconds
        if not is_alike or facts.reads_prompts:
            self._num_foreign += 1
            if self._num_foreign > MOST_FOREIGN_ROUNDS:
                self._restart()
            return None
        self._block.add(facts)
        if self._phase is Phase.SETTLING:
            if self._has_settled(facts):
                self._begin(Phase.COUNTING)
            return None
        return self._next_block() if self._block.is_whole else None

    def _next_block(self) -> float | None:
        """Go on to the next block; the log ratio, if this was the second one of two."""
        rate, arm = self._block.tokens_per_stream_second, self.arm
        if arm is Arm.DRAFTS:
            self._num_drafting = len(self._block.drafting)
        else:
            self.alone_rate = rate
        is_second = self._place % 2 == 1
        self._place += 1
        self._begin(Phase.COUNTING if is_second else Phase.SETTLING)
        if not is_second:
            self._first_rate = rate
            return None
        with_drafts, without = (
            (rate, self._first_rate) if arm is Arm.DRAFTS else (self._first_rate, rate)
        )
        if not with_drafts or not without:
            return None
        self.num_pairs += 1
        return math.log(with_drafts / without)

    def _has_settled(self, latest: RoundFacts) -> bool:
        """Whether rounds are now as they stay."""
        block = self._block
        if block.num_rounds < SETTLING_ROUNDS or block.seconds < SETTLING_SECONDS:
            return False
        if block.seconds >= MOST_SETTLING_SECONDS:
            return True
        if self.arm is Arm.ALONE:
            return not latest.drafting_devices
        num_usual = len(latest.devices) if self._num_drafting is None else self._num_drafting
        return len(block.drafting) >= DRAFTING_SHARE * num_usual

    def _restart(self) -> None:
        """Begin the two blocks anew."""
        self._place -= self._place % 2
        self._num_restarts += 1
        self._begin(Phase.SETTLING)

    def _begin(self, phase: Phase) -> None:
        self._phase = phase
        self._block = _Block()
        self._num_foreign = 0


class _Block:
    """Sums over rounds."""

    __slots__ = ("_num_tokens", "_stream_seconds", "drafting", "num_rounds", "seconds")

    def __init__(self) -> None:
        self.num_rounds = 0
        self.seconds = 0.0
        self.drafting: frozenset[str] = frozenset()
        self._num_tokens = 0
        self._stream_seconds = 0.0

    def add(self, facts: RoundFacts) -> None:
        self.num_rounds += 1
        self.seconds += facts.seconds
        self.drafting |= facts.drafting_devices
        self._num_tokens += facts.num_tokens
        self._stream_seconds += facts.seconds * facts.num_streams

    @property
    def is_whole(self) -> bool:
        is_long = self.seconds >= LONG_BLOCK_SECONDS
        least_rounds = LONG_BLOCK_ROUNDS if is_long else BLOCK_ROUNDS
        return self.num_rounds >= least_rounds and self.seconds >= BLOCK_SECONDS

    @property
    def tokens_per_stream_second(self) -> float:
        return self._num_tokens / self._stream_seconds if self._stream_seconds else 0.0
