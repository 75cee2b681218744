"""Rounds with drafts and rounds without, in blocks that take turns: each two are one log ratio.

What holds anyway comes first, then the other way twice, and so on (ABBA): of each two blocks one
begins with a change, and the first rounds after a change count for nothing. Streams come and go:
rounds are compared with those of the other block in which the same ones wrote. Pure, without a
clock: rounds bring their seconds. This module must never decide what the ratios prove.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
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
# Rounds alone, where drafts hold anyway, are what measuring costs, and of the two their rate varies
# less: one token each, where a draft brings one or nine. So many of them, of the same streams, do
# for the first pairs, which prove what is large; what is small takes whole blocks.
FEW_ALONE_ROUNDS = 8
BRIEF_PAIRS = 2
# After a change: boards hear of it, catch up with the text and send their first drafts.
SETTLING_ROUNDS = 4
SETTLING_SECONDS = 0.2
MOST_SETTLING_SECONDS = 3.0
# Part of the devices whose drafts must be seen again by then.
DRAFTING_SHARE = 0.75
# Rounds of the same streams that two blocks must have in common to be compared; the second one goes
# on for so long until they have.
LEAST_COMMON_ROUNDS = 6
MOST_BLOCK_ROUNDS = 32
# Rounds with prompts, which do not count, until two blocks are too far from each other.
MOST_LEFT_OUT = 64
# How often two blocks may be begun anew before it is given up.
MOST_RESTARTS = 4


class DraftTrial:
    """Mutable state of blocks in turn; the owner ends it."""

    def __init__(self, settled: Arm, num_pairs_before: int = 0) -> None:
        """`num_pairs_before`: of trials that this one goes on with."""
        self._settled = settled
        self._num_pairs_before = num_pairs_before
        self._place = 0  # of the block that goes on
        self._phase = Phase.COUNTING  # what holds anyway has settled
        self._block = _Block()
        self._first_block = self._block  # of two
        self._num_drafting: int | None = None  # devices, of the latest block with drafts
        self._num_left_out = 0
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

    def observe(self, facts: RoundFacts, writers: Hashable) -> float | None:
        """Take a round in; the log ratio of drafts over none, where it completes one.

        `writers`: who wrote in it, equal for rounds that are alike.
        """
        if self.arm is not self._settled or self._phase is Phase.SETTLING:
            self.other_seconds += facts.seconds
        if facts.reads_prompts:
            self._num_left_out += 1
            if self._num_left_out > MOST_LEFT_OUT:
                self._restart()
            return None
        self._block.add(facts, writers)
        if self._phase is Phase.SETTLING:
            if self._has_settled(facts):
                self._begin(Phase.COUNTING)
            return None
        return self._next_block() if self._is_whole else None

    def _next_block(self) -> float | None:
        """Go on to the next block; the log ratio, if this was the second one of two."""
        block, arm = self._block, self.arm
        if arm is Arm.DRAFTS:
            self._num_drafting = len(block.drafting)
        else:
            self.alone_rate = block.tokens_per_stream_second
        if self._place % 2 == 0:
            self._first_block = block
            self._place += 1
            self._begin(Phase.SETTLING)
            return None
        pair = (block, self._first_block) if arm is Arm.DRAFTS else (self._first_block, block)
        log_ratio = _log_ratio(*pair)
        if log_ratio is None:
            self._restart()
            return None
        self._place += 1
        self._begin(Phase.COUNTING)
        self.num_pairs += 1
        return log_ratio

    @property
    def _is_whole(self) -> bool:
        is_whole = self._block.is_whole or (self._is_brief and self._block.has_few_alike)
        if not is_whole or self._place % 2 == 0:
            return is_whole
        has_common = _num_common(self._block, self._first_block) >= LEAST_COMMON_ROUNDS
        return has_common or self._block.num_rounds >= MOST_BLOCK_ROUNDS

    @property
    def _is_brief(self) -> bool:
        """Whether boards rest whose drafts hold anyway, for one of the first pairs."""
        is_costly = self.arm is Arm.ALONE and self._settled is Arm.DRAFTS
        return is_costly and self._num_pairs_before + self.num_pairs < BRIEF_PAIRS

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
        self._num_left_out = 0


class _Sums:
    """Over rounds in which the same streams wrote."""

    __slots__ = ("num_rounds", "num_tokens", "stream_seconds")

    def __init__(self) -> None:
        self.num_rounds = 0
        self.num_tokens = 0
        self.stream_seconds = 0.0

    def add(self, facts: RoundFacts) -> None:
        self.num_rounds += 1
        self.num_tokens += facts.num_tokens
        self.stream_seconds += facts.seconds * facts.num_streams

    @property
    def rate(self) -> float:
        """Tokens per second of a stream."""
        return self.num_tokens / self.stream_seconds if self.stream_seconds else 0.0


class _Block:
    """Rounds of one arm."""

    __slots__ = ("_total", "by_writers", "drafting", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self.drafting: frozenset[str] = frozenset()
        self.by_writers: dict[Hashable, _Sums] = {}
        self._total = _Sums()

    def add(self, facts: RoundFacts, writers: Hashable) -> None:
        self.seconds += facts.seconds
        self.drafting |= facts.drafting_devices
        self._total.add(facts)
        self.by_writers.setdefault(writers, _Sums()).add(facts)

    @property
    def num_rounds(self) -> int:
        return self._total.num_rounds

    @property
    def is_whole(self) -> bool:
        is_long = self.seconds >= LONG_BLOCK_SECONDS
        least_rounds = LONG_BLOCK_ROUNDS if is_long else BLOCK_ROUNDS
        return self.num_rounds >= least_rounds and self.seconds >= BLOCK_SECONDS

    @property
    def has_few_alike(self) -> bool:
        num_alike = max((one.num_rounds for one in self.by_writers.values()), default=0)
        return num_alike >= FEW_ALONE_ROUNDS and self.seconds >= BLOCK_SECONDS

    @property
    def tokens_per_stream_second(self) -> float:
        return self._total.rate


def _common(first: _Block, second: _Block) -> Iterator[tuple[_Sums, _Sums, int]]:
    """Sums of both over rounds of the same streams, and how many rounds both have of them."""
    for writers, one in first.by_writers.items():
        other = second.by_writers.get(writers)
        if other is not None and one.rate and other.rate:
            yield one, other, min(one.num_rounds, other.num_rounds)


def _num_common(first: _Block, second: _Block) -> int:
    return sum([num_rounds for _, _, num_rounds in _common(first, second)])


def _log_ratio(with_drafts: _Block, without: _Block) -> float | None:
    """Of the rates in rounds of the same streams; None: there are too few of them."""
    num_rounds = _num_common(with_drafts, without)
    if num_rounds < LEAST_COMMON_ROUNDS:
        return None
    common = _common(with_drafts, without)
    return sum([num * math.log(one.rate / other.rate) for one, other, num in common]) / num_rounds
