"""Planner and boards together, over links that are slow, lossy and repeat themselves.

The real planner and streams of the verifier on one side, the real streams of boards on the other;
every message passes through the real codec.  Whatever order things happen in, no honest message is
refused, both ends agree, and the text is the target's own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_agent.stream import DraftSettings
from shared.sampling import GREEDY, SamplingParameters
from shared.scripted_model import SCRIPTED_END_ID, ScriptedModel
from shared.session import StreamState
from tests.support.fake_target import FakeTarget, target_alone
from tests.support.two_ends import Board, TwoEnds, Wish
from verifier.blocks import BlockPool
from verifier.budget import BudgetLimits
from verifier.cost_curve import CostCurve
from verifier.policies import StreamShare
from verifier.rounds import RoundPlanner, RoundSettings
from verifier.scheduling import ScheduleSettings
from verifier.streams import Stream, StreamRequest
from verifier.target import Round

VOCAB_SIZE = 24
MAX_STREAMS = 3
TIMEOUT_SECONDS = 5.0
# A stream of 24 tokens needs some hundred turns when every round gives it one.
MAX_SETTLING_TURNS = 1500

small = st.integers(0, MAX_STREAMS - 1)
seconds = st.sampled_from([0.0, 0.01, 0.05, 0.3, 2.0])


class ChosenPolicy:
    """Gives the lengths that the test chose, within what a policy may give."""

    def __init__(self) -> None:
        self.lengths = [4]

    def allocate(self, streams: Sequence[StreamShare], budget_tokens: int) -> list[int]:
        left = budget_tokens
        allocated = []
        for i, stream in enumerate(streams):
            length = min(self.lengths[i % len(self.lengths)], stream.max_length, left)
            allocated.append(length)
            left -= length
        return allocated


class BothEnds(RuleBasedStateMachine):
    """Things happen in any order; `settle` lets every stream come to its end."""

    @initialize(
        budget_tokens=st.sampled_from([None, 0, 1, 3, 8, 64]),
        max_round_tokens=st.sampled_from([2, 3, 6, 20, 200]),
        prefill_chunk_tokens=st.integers(1, 12),
        num_blocks=st.sampled_from([40, 64, 150]),
        max_window=st.sampled_from([1, 3, 9, 20]),
        is_barrier=st.booleans(),
        uses_guard=st.booleans(),
    )
    def begin(
        self,
        budget_tokens: int | None,
        max_round_tokens: int,
        prefill_chunk_tokens: int,
        num_blocks: int,
        max_window: int,
        is_barrier: bool,
        uses_guard: bool,
    ) -> None:
        self.target = FakeTarget(ScriptedModel(VOCAB_SIZE, seed=7), num_blocks, block_tokens=2)
        self.policy = ChosenPolicy()
        self.settings = RoundSettings(
            schedule=ScheduleSettings(
                limits=BudgetLimits(
                    max_round_tokens=max_round_tokens,
                    budget_tokens=budget_tokens,
                    slowdown_limit=0.5,
                ),
                max_draft_length=8,
                max_window=max_window,
                uses_guard=uses_guard,
            ),
            prefill_chunk_tokens=min(prefill_chunk_tokens, max_round_tokens),
            draft_timeout_seconds=TIMEOUT_SECONDS,
            is_barrier=is_barrier,
        )
        self.planner = RoundPlanner(
            self.settings,
            self.policy,
            CostCurve.from_samples([(1, 16, 0.01), (64, 16, 0.02)]),
            BlockPool(num_blocks, block_tokens=2),
        )
        self.now = 100.0
        self.running: Round | None = None
        self.ends: list[TwoEnds] = []
        self.alone: list[list[int] | None] = []
        self.num_unserved: dict[int, int] = {}
        self.next_number = 1

    # --- streams -------------------------------------------------------------------------------

    @rule(
        prompt_length=st.integers(1, 20),
        max_output_tokens=st.sampled_from([1, 2, 9, 30, 60]),
        kind=st.sampled_from(["greedy", "coupled", "rejection", "rejection"]),
        draft_length=st.sampled_from([None, None, None, 0, 1, 5]),
        confidence_stop=st.sampled_from([0.0, 0.0, 0.4]),
        disagreement=st.sampled_from([0.0, 0.2, 0.6]),
        draft_context_tokens=st.sampled_from([14, 25, 100]),
        board_chunk_tokens=st.sampled_from([6, 64]),
        has_end=st.sampled_from([False, False, True]),
        stop=st.sampled_from([(), (), (), (" kiba", "tofu"), ("f",)]),
    )
    def open(
        self,
        prompt_length: int,
        max_output_tokens: int,
        kind: str,
        draft_length: int | None,
        confidence_stop: float,
        disagreement: float,
        draft_context_tokens: int,
        board_chunk_tokens: int,
        has_end: bool,
        stop: tuple[str, ...],
    ) -> None:
        if len(self.ends) == MAX_STREAMS:
            return
        number = len(self.ends)
        prompt_ids = tuple((number * 5 + i * 3) % (VOCAB_SIZE - 1) + 1 for i in range(prompt_length))
        sampling = GREEDY if kind == "greedy" else SamplingParameters(temperature=0.9, top_p=0.95)
        request = StreamRequest(
            prompt_ids=prompt_ids,
            sampling=sampling,
            mode="rejection" if kind == "rejection" else "coupled",
            seed=1000 + number,
            max_output_tokens=max_output_tokens,
            ends_at_context=False,
            end_ids=frozenset({SCRIPTED_END_ID} if has_end else ()),
            draft_length=draft_length,
            draft_context_tokens=draft_context_tokens,
        )
        drafted_with = ScriptedModel(VOCAB_SIZE, seed=7, disagreement=disagreement)
        draft_settings = DraftSettings(
            row_entries=8,
            confidence_stop=confidence_stop,
            prefill_chunk_tokens=board_chunk_tokens,
            context_tokens=draft_context_tokens,
        )
        board = Board(drafted_with, draft_settings, sampling, draft_length)
        board.drafter_is_target = disagreement == 0.0
        self.ends.append(TwoEnds(Wish(prompt_ids, request, stop), board, self.planner, f"b{number}"))
        self.alone.append(
            None
            if kind == "rejection"
            else target_alone(
                self.target.model, prompt_ids, sampling, request.seed, max_output_tokens
            )
        )

    @rule(i=small)
    def cancel(self, i: int) -> None:
        for ends in self.chosen(i):
            ends.cancel()

    @rule(i=small)
    def lose_link(self, i: int) -> None:
        for ends in self.chosen(i):
            ends.connect()

    # --- messages ------------------------------------------------------------------------------

    @rule(i=small, num_messages=st.integers(1, 4))
    def deliver_up(self, i: int, num_messages: int) -> None:
        for ends in self.ends[i : i + 1]:
            for _ in range(num_messages):
                ends.deliver_up(self.now)

    @rule(i=small, num_messages=st.integers(1, 4))
    def deliver_down(self, i: int, num_messages: int) -> None:
        for ends in self.ends[i : i + 1]:
            for _ in range(num_messages):
                ends.deliver_down(self.now)

    @rule(i=small)
    def finish_opening(self, i: int) -> None:
        for ends in self.ends[i : i + 1]:
            ends.finish_opening(self.next_number)
            self.next_number += 1

    @rule(i=small)
    def repeat_draft(self, i: int) -> None:
        for ends in self.chosen(i):
            ends.repeat_draft()

    # --- boards --------------------------------------------------------------------------------

    @rule(i=small)
    def power_off(self, i: int) -> None:
        """The board computes nothing from now on, and nobody is told."""
        for ends in self.chosen(i):
            ends.board.has_power = False

    @rule(i=small)
    def start_step(self, i: int) -> None:
        for ends in self.chosen(i):
            ends.board.start_step()

    @rule(i=small, lasted=seconds)
    def finish_step(self, i: int, lasted: float) -> None:
        for ends in self.chosen(i):
            self.now += lasted
            ends.send(ends.board.finish_step(lasted, self.now))

    @rule(i=small, num_steps=st.integers(1, 10))
    def draft(self, i: int, num_steps: int) -> None:
        for ends in self.chosen(i):
            for _ in range(num_steps):
                ends.board.start_step()
                self.now += 0.002
                ends.send(ends.board.finish_step(0.002, self.now))

    @rule(i=small)
    def fail_step(self, i: int) -> None:
        for ends in self.chosen(i):
            ends.board.start_step()
            ends.send(ends.board.fail_step())

    @rule(i=small)
    def lose_step(self, i: int) -> None:
        for ends in self.chosen(i):
            ends.board.start_step()
            ends.send(ends.board.lose_step())

    # --- rounds --------------------------------------------------------------------------------

    @rule(lengths=st.lists(st.integers(0, 8), min_size=1, max_size=MAX_STREAMS))
    def choose_lengths(self, lengths: list[int]) -> None:
        self.policy.lengths = lengths

    @rule(lasted=seconds)
    def wait(self, lasted: float) -> None:
        self.now += lasted

    @rule()
    def start_round(self) -> None:
        if self.running is not None:
            return
        waiting = {
            stream.number
            for stream in self.planner.streams.values()
            if stream.waits_for_board and self.now - stream.waiting_since < TIMEOUT_SECONDS
        }
        owing = {
            stream.number
            for stream in self.planner.streams.values()
            if owes_a_draft(stream) and self.now - stream.waiting_since < TIMEOUT_SECONDS
        }
        self.running = self.planner.start_round(self.now)
        if self.running is None:
            return
        served = {item.stream for item in self.running.items}
        assert set() == served & waiting
        assert not (self.settings.is_barrier and owing)
        self.check_limits(self.running)
        for item in self.running.items:
            self.check_item(item.stream, self.planner.streams[item.stream])
        for number in self.planner.streams:
            is_idle = number not in served and not self.planner.streams[number].waits_for_board
            self.num_unserved[number] = self.num_unserved.get(number, 0) + 1 if is_idle else 0
            assert self.num_unserved[number] <= MAX_STREAMS

    @rule(lasted=seconds)
    def finish_round(self, lasted: float) -> None:
        if self.running is None:
            return
        running, self.running = self.running, None
        self.now += lasted
        expected = {item.stream: self.expected_context(running, item.stream) for item in running.items}
        outcome = self.target.verify(running)
        for item in running.items:
            assert expected[item.stream] in (None, self.target.read(item))
        results = self.planner.finish_round(running, outcome, max(lasted, 0.001), self.now)
        self.deliver(results)

    @rule()
    def play(self) -> None:
        """Everybody does all that is to be done, once."""
        self.turn()

    # --- what must hold ------------------------------------------------------------------------

    @invariant()
    def both_ends_agree_when_nothing_is_on_its_way(self) -> None:
        for ends in self.ends if hasattr(self, "ends") else []:
            stream, board = ends.stream, ends.board
            if ends.is_quiet and stream is not None and stream.finish is None:
                assert stream.output_ids == board.stream.output_ids
                assert (stream.window, stream.draft_length) == (
                    board.stream.window,
                    board.stream.draft_length,
                )
                assert place(stream.path) == place(board.stream.path)

    @invariant()
    def the_output_is_the_targets(self) -> None:
        for ends, alone in zip(self.ends, self.alone, strict=True) if hasattr(self, "ends") else []:
            if alone is not None:
                board = ends.board.stream
                output = board.output_ids
                assert alone[: len(output)] == output
                if ends.board.drafter_is_target:
                    drafted = [token.token_id for token in (*board.path.live, *board.unsent)]
                    assert alone[len(output) :][: len(drafted)] == drafted
                if ends.stream is not None:
                    assert alone[: len(ends.stream.output_ids)] == ends.stream.output_ids

    @invariant()
    def every_block_has_one_owner(self) -> None:
        if hasattr(self, "planner"):
            self.planner.blocks.check_integrity()

    def teardown(self) -> None:
        if hasattr(self, "planner"):
            num_timeouts = self.planner.num_draft_timeouts
            for _ in range(MAX_SETTLING_TURNS):
                if all(ends.is_over for ends in self.ends) and self.running is None:
                    break
                self.turn()
            self.check_the_end()
            # Time stands still for boards that work: nobody waits for a draft that never comes.
            num_timeouts = self.planner.num_draft_timeouts - num_timeouts
            assert self.has_dead_board or num_timeouts <= MAX_STREAMS

    # --- private -------------------------------------------------------------------------------

    def chosen(self, i: int) -> list[TwoEnds]:
        return [ends for ends in self.ends[i : i + 1] if not ends.is_over]

    def turn(self) -> None:
        self.now += 1e-6
        self.start_round()
        deadline = self.planner.next_deadline()
        if self.running is None and deadline is not None and self.has_dead_board:
            self.now = max(self.now, deadline)
        for ends in self.ends:
            for _ in range(len(ends.up) + 1):
                ends.deliver_up(self.now)
            ends.finish_opening(self.next_number)
            self.next_number += 1
            while ends.down:
                ends.deliver_down(self.now)
            if not ends.is_over:
                ends.board.start_step()
                ends.send(ends.board.finish_step(0.0, self.now))
        self.finish_round(0.0)

    @property
    def has_dead_board(self) -> bool:
        return not all(ends.board.has_power for ends in self.ends)

    def deliver(self, results: list) -> None:
        for result in results:
            assert result.failure is None
            for ends in self.ends:
                ends.deliver_result(result)

    def check_limits(self, round_: Round) -> None:
        limits = self.settings.schedule.limits
        assert round_.num_tokens <= limits.max_round_tokens
        if limits.budget_tokens is not None:
            assert round_.num_draft_tokens <= limits.budget_tokens
        num_prefill = sum(
            len(item.token_ids)
            for item in round_.items
            if self.planner.streams[item.stream].num_pending_tokens > 1
        )
        assert num_prefill <= self.settings.prefill_chunk_tokens
        blocks = [block for item in round_.items for block in item.block_table]
        assert len(blocks) == len(set(blocks))

    def check_item(self, number: int, stream: Stream) -> None:
        (item,) = [item for item in self.running.items if item.stream == number]
        if item.verify is None:
            return
        assert stream.position == item.verify.position
        assert stream.position + len(item.verify.draft_token_ids) < stream.request.max_output_tokens
        if stream.request.mode == "rejection":
            assert len(item.verify.rows) == len(item.verify.draft_token_ids)
            chunk = []
            for token in stream.path.live:
                if token.row is None:
                    break
                chunk.append(token.token_id)
                if token.ends_chunk:
                    break
            tested = item.verify.draft_token_ids
            assert tuple(chunk[: len(tested)]) == tested
            assert item.verify.draws_bonus == (len(tested) == len(chunk))
            assert tested or item.verify.draws_bonus

    def expected_context(self, round_: Round, number: int) -> tuple[int, ...] | None:
        """What the target is to read for a stream: prompt, committed tokens, drafts."""
        stream = self.planner.streams[number]
        (item,) = [item for item in round_.items if item.stream == number]
        known = (*stream.request.prompt_ids, *stream.output_ids)
        if item.verify is None:
            return known[: item.context_tokens]
        return (*known, *item.verify.draft_token_ids)

    def check_the_end(self) -> None:
        assert self.running is None
        assert ({}, {}) == (self.planner.streams, self.planner.queue)
        assert self.planner.blocks.num_blocks == self.planner.blocks.num_free_blocks
        self.planner.blocks.check_integrity()
        for ends, alone in zip(self.ends, self.alone, strict=True):
            assert ends.is_over, "a stream never ended"
            if ends.stream is not None:
                assert ends.stream.output_ids == ends.board.stream.output_ids
                assert ends.stream.finish is not None
                if ends.stream.finish.reason == "length":
                    assert ends.wish.request.max_output_tokens == ends.stream.position


def owes_a_draft(stream: Stream) -> bool:
    path = stream.path
    return stream.board_is_ready and stream.window > 0 and not path.live and not path.has_passed


def place(path) -> tuple:
    return path.base, path.position, [token.token_id for token in path.live], path.has_passed


TestBothEnds = BothEnds.TestCase
TestBothEnds.settings = settings(
    max_examples=int(os.environ.get("BOTH_ENDS_EXAMPLES", "60")),
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
