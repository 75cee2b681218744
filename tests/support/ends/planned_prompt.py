"""A long prompt beside streams that run, through planner and target alone, by any clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from shared.protocol.text import ByteAssembler
from tests.support.ends.long_prompt import percentile
from tests.support.ends.planning import make_stream
from verifier.cost_curve.look_back import chunks_of
from verifier.rounds.planner import RoundPlanner
from verifier.streams.stream import Stream
from verifier.target.target import TargetModel

# Rounds before any is counted: the first ones read the others' prompts and settle the curve.
_FIRST_ROUNDS = 50
# Before the long prompt, and as many after it: the others' own contexts have grown by then.
_ROUNDS_ALONE = 200


class PlayedRound(NamedTuple):
    """One round beside the long prompt."""

    seconds: float
    expected_seconds: float  # by the curve as it was then
    chunk_tokens: int
    depth_tokens: int  # of the prompt before them


class Played(NamedTuple):
    """Rounds of the others before the long prompt came, while it was read, and after that."""

    seconds_before: list[float]
    beside: list[PlayedRound]
    seconds_after: list[float]
    num_lost_tokens: int  # of the others: a round gives each one token
    is_read: bool  # False: it was not through in time

    @property
    def ratio(self) -> float:
        """The 99th percentile beside the prompt, over that of rounds alone before and after it."""
        beside = percentile([round_.seconds for round_ in self.beside], 0.99)
        return beside / percentile(self.seconds_before + self.seconds_after, 0.99)


class _Play(NamedTuple):
    planner: RoundPlanner
    target: TargetModel
    clock: Callable[[], float]

    def run_round(self) -> PlayedRound:
        """A whole round, planning included."""
        started_at = self.clock()
        round_ = self.planner.start_round(started_at)
        assert round_ is not None
        chunks = chunks_of(round_)
        expected = self.planner.curve.round_seconds(
            round_.num_tokens, round_.context_tokens, chunks
        )
        outcome = self.target.run(round_)
        seconds = self.clock() - started_at
        self.planner.finish_round(round_, outcome, seconds, self.clock())
        self.planner.follow_up(self.clock())
        chunk = chunks[-1] if chunks else (0, 0)
        return PlayedRound(self.clock() - started_at, expected, *chunk)


def play_beside(
    planner: RoundPlanner,
    target: TargetModel,
    clock: Callable[[], float],
    others: list[Stream],
    prompts: list[Stream],
    *,
    most_seconds: float,
) -> Played:
    """Let the others run without drafts, then long prompts come; they are read for so long."""
    play = _Play(planner, target, clock)
    for stream in others:
        planner.add(stream)
    for _ in range(_FIRST_ROUNDS):
        play.run_round()
    before = [play.run_round().seconds for _ in range(_ROUNDS_ALONE)]
    num_before = sum(len(stream.output_ids) for stream in others)
    for stream in prompts:
        planner.add(stream)
    beside: list[PlayedRound] = []
    ends_at = clock() + most_seconds
    while not _are_read(prompts) and clock() < ends_at:
        beside.append(play.run_round())
    num_given = sum(len(stream.output_ids) for stream in others) - num_before
    num_lost = len(beside) * len(others) - num_given
    is_read = _are_read(prompts)
    for stream in prompts:
        if not stream.output_ids:
            planner.cancel(stream)
    after = [play.run_round().seconds for _ in range(_ROUNDS_ALONE)]
    return Played(before, beside, after, num_lost, is_read)


def _are_read(prompts: list[Stream]) -> bool:
    return all(stream.output_ids for stream in prompts)


def prompt_stream(number: int, num_tokens: int, num_output: int, vocab_size: int) -> Stream:
    """A stream of a board of its own that drafts nothing and never ends before its last token."""
    stream = make_stream(
        number,
        device=f"board-{number}",
        prompt_ids=tuple((7 * i + number) % vocab_size for i in range(num_tokens)),
        max_output_tokens=num_output,
        end_ids=frozenset(),
        draft_length=0,
    )
    stream.text = ByteAssembler([b"x"] * vocab_size, frozenset())
    return stream
