"""Planner and boards together, over links that are slow, lossy and repeat themselves.

The real planner and streams of the verifier on one side, the real streams of boards on the other;
every message passes through the real codec.  Whatever order things happen in: no honest message is
refused, both ends agree, every stream comes to its end, and the text is the target's own; also
where the cache has no room for all of them, and streams lose their place in it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_agent.drafting.settings import DraftSettings
from shared.protocol.draft_path import DraftPath
from shared.speculation.goodput import IntArray
from shared.speculation.noise import Domain
from shared.speculation.probabilities import dense_probabilities
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.scripted_model import SCRIPTED_END_ID, ScriptedModel
from shared.speculation.verification import draw_dense
from tests.support.ends.limits import (
    make_budget_limits,
    make_round_settings,
    make_schedule_settings,
)
from tests.support.ends.two_ends import Board, TwoEnds
from tests.support.models.cache_watch import CacheWatch
from verifier.cost_curve.curve import CostCurve
from verifier.placement.relocation import lose_cache, take_back_round
from verifier.policies import BudgetedPolicy, OpenStreams
from verifier.rounds.blocks import BlockPool
from verifier.rounds.planner import RoundPlanner
from verifier.rounds.quarantine import Quarantine
from verifier.streams.stream import Stream
from verifier.streams.stream_request import StreamRequest
from verifier.target.round import Round, RoundItem
from verifier.target.scripted_target import ScriptedTarget

MODEL = ScriptedModel(24, seed=7)
BLOCK_TOKENS = 2
MAX_STREAMS = 3
MAX_CROWDED_STREAMS = 6
NUM_SCENARIOS = 300
NUM_CROWDED_SCENARIOS = 120
TIMEOUT_SECONDS = 5.0
# 60 tokens of 3 streams, one after the other and each in a round of its own, and some air.
MAX_SETTLING_TURNS = 1500
# Twice as many streams, and who lost his place reads all his tokens anew.
MAX_CROWDED_SETTLING_TURNS = 6000

DURATIONS = [0.0, 0.01, 0.05, 0.3, 2.0]
# What may happen next; what keeps things going comes up more often than what disturbs them.
ACTIONS = [
    *["deliver_up", "deliver_down", "draft", "start_round", "finish_round"] * 6,
    *["start_step", "finish_step", "turn"] * 4,
    *["finish_opening", "wait"] * 2,
]
MISHAPS = [
    *["repeat_draft", "cancel", "lose_link", "cut_link", "restart_board"],
    *["fail_step", "lose_step", "power_off", "wait", "lose_worker"],
]


@dataclass(frozen=True)
class Wish:
    """What a client asks for, and of which board."""

    kind: str
    prompt_length: int
    max_output_tokens: int
    draft_length: int | None
    confidence_stop: float
    disagreement: float
    draft_context_tokens: int
    chunk_tokens: int
    has_end: bool
    stop: tuple[str, ...]
    ngram_tokens: int
    is_eager: bool
    has_model: bool


WISHES: dict[str, list[Any]] = {
    "kind": ["rejection", "greedy", "coupled", "rejection"],
    "prompt_length": [*range(1, 21)],
    "max_output_tokens": [60, 30, 9, 2, 1],
    "draft_length": [None, None, None, 0, 1, 5],
    "confidence_stop": [0.0, 0.0, 0.4],
    "disagreement": [0.2, 0.6, 0.0],
    "draft_context_tokens": [100, 100, 25, 14],
    "chunk_tokens": [6, 64],
    "has_end": [False, False, False, True],
    "stop": [(), (), (), (" ba", "f")],
    "ngram_tokens": [0, 3],
    "is_eager": [True, True, False],
    "has_model": [True, True, True, False],
}
LIMITS: dict[str, list[Any]] = {
    "budget_tokens": [None, 8, 3, 1, 0, 64],
    "max_round_tokens": [200, 20, 6, 3, 2],
    "prefill_chunk_tokens": [*range(1, 13)],
    "num_blocks": [150, 64, 40],
    "max_window": [20, 9, 3, 1],
    "is_barrier": [False, False, False, True],
    "uses_guard": [False, False, True],
    "plans_first": [True, False],  # and sends the verdicts of the round before then, as the engine
    "reserved_output_tokens": [256],  # a stream that has a place keeps it
    "prefill_slowdown_limit": [1.0],
}
# All start with little room, all grow, and the longest fills the cache alone.
CROWDED_WISHES = WISHES | {"max_output_tokens": [60, 60, 40]}
CROWDED_LIMITS = LIMITS | {
    "num_blocks": [40, 43, 50],
    "reserved_output_tokens": [1, 3, 7],
    "prefill_slowdown_limit": [0.1, 1.0],
}


def wishes_of(values: dict[str, list[Any]], max_streams: int) -> st.SearchStrategy[list[Wish]]:
    wishes = st.builds(Wish, **any_of(values))
    return st.lists(wishes, min_size=1, max_size=max_streams)


def any_of(values: dict[str, list[Any]]) -> dict[str, st.SearchStrategy[Any]]:
    return {name: st.sampled_from(chosen) for name, chosen in values.items()}


class ChosenPolicy(BudgetedPolicy):
    """Gives the lengths that the test chose, within what a policy may give."""

    def __init__(self) -> None:
        self.lengths = [4]

    def allocate(self, streams: OpenStreams, budget_tokens: int) -> IntArray:
        allocated: list[int] = []
        for i, max_length in enumerate(streams.max_lengths.tolist()):
            left = budget_tokens - sum(allocated)
            allocated.append(min(self.lengths[i % len(self.lengths)], max_length, left))
        return np.array(allocated, dtype=np.int64)


class BothEnds(RuleBasedStateMachine):
    """Things happen in any order; then every stream is brought to its end."""

    max_streams = MAX_STREAMS
    max_settling_turns = MAX_SETTLING_TURNS

    @initialize(wishes=wishes_of(WISHES, MAX_STREAMS), **any_of(LIMITS))
    def begin(self, wishes: list[Wish], **chosen: Any) -> None:
        self.set_up(wishes, **chosen)

    def set_up(
        self,
        wishes: list[Wish],
        budget_tokens: int | None,
        max_round_tokens: int,
        prefill_chunk_tokens: int,
        num_blocks: int,
        max_window: int,
        is_barrier: bool,
        uses_guard: bool,
        reserved_output_tokens: int,
        prefill_slowdown_limit: float,
        plans_first: bool,
    ) -> None:
        self.settings = make_round_settings(
            schedule=make_schedule_settings(
                limits=make_budget_limits(
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
            reserved_output_tokens=reserved_output_tokens,
            prefill_slowdown_limit=prefill_slowdown_limit,
        )
        self.policy = ChosenPolicy()
        self.planner = RoundPlanner(
            self.settings,
            self.policy,
            CostCurve.from_samples([(1, 16, 0.01), (64, 16, 0.02)]),
            BlockPool(num_blocks, BLOCK_TOKENS),
        )
        self.target = ScriptedTarget(MODEL, num_blocks=num_blocks, block_tokens=BLOCK_TOKENS)
        self.cache = CacheWatch(BLOCK_TOKENS)
        self.now = 100.0
        self.running: Round | None = None
        self.plans_first = plans_first
        self.ends: list[TwoEnds] = []
        self.alone: list[list[int] | None] = []  # the only right output; None in `rejection`
        self.num_unserved: dict[int, int] = {}  # rounds since a stream's last one
        self.num_opened = 0
        for wish in wishes:
            self.open(wish)

    # --- what may happen -----------------------------------------------------------------------

    def open(self, wish: Wish) -> None:
        number = len(self.ends)
        is_greedy = wish.kind == "greedy"
        request = StreamRequest(
            prompt_ids=tuple((5 * number + 3 * i) % 23 + 1 for i in range(wish.prompt_length)),
            sampling=GREEDY if is_greedy else SamplingParameters(0.9, top_p=0.95),
            mode="rejection" if wish.kind == "rejection" else "coupled",
            seed=1000 + number,
            max_output_tokens=wish.max_output_tokens,
            ends_at_context=False,
            end_ids=frozenset({SCRIPTED_END_ID} if wish.has_end else ()),
            draft_length=wish.draft_length,
            draft_context_tokens=wish.draft_context_tokens,
        )
        draft_settings = DraftSettings(
            row_entries=8,
            confidence_stop=wish.confidence_stop,
            prefill_chunk_tokens=wish.chunk_tokens,
            context_tokens=wish.draft_context_tokens,
            ngram_tokens=wish.ngram_tokens,
            has_model=wish.has_model,
        )
        draft_model = ScriptedModel(MODEL.vocab_size, MODEL.seed, disagreement=wish.disagreement)
        board = Board(
            draft_model,
            draft_settings,
            request.sampling,
            wish.draft_length,
            is_eager=wish.is_eager,
        )
        self.ends.append(TwoEnds(request, wish.stop, board, self.planner))
        self.alone.append(None if wish.kind == "rejection" else target_alone(request))

    @rule(
        seed=st.integers(0, 2**32),
        num_actions=st.sampled_from([150, 50, 10]),
        has_mishaps=st.booleans(),
    )
    def go_on(self, seed: int, num_actions: int, has_mishaps: bool) -> None:
        self.live(random.Random(seed), num_actions, has_mishaps)

    def live(self, choices: random.Random, num_actions: int, has_mishaps: bool) -> None:
        for _ in range(num_actions):
            is_mishap = has_mishaps and choices.random() < 0.03
            action = choices.choice(MISHAPS if is_mishap else ACTIONS)
            self.act(action, choices.randrange(len(self.ends)), choices.randrange(10))

    @rule(mishap=st.sampled_from(MISHAPS), i=st.integers(0, 2), amount=st.integers(0, 9))
    def disturb(self, mishap: str, i: int, amount: int) -> None:
        self.act(mishap, i, amount)

    @rule(lengths=st.lists(st.integers(0, 8), min_size=1, max_size=MAX_STREAMS))
    def choose_lengths(self, lengths: list[int]) -> None:
        self.policy.lengths = lengths

    def act(self, action: str, i: int, amount: int) -> None:
        """Let one thing happen, to stream `i` if it is there; `amount` is taken as it fits."""
        seconds = DURATIONS[amount % len(DURATIONS)]
        match action:
            case "turn":
                self.turn()
            case "wait":
                self.now += seconds
            case "start_round":
                self.start_round()
            case "finish_round":
                self.finish_round(seconds)
            case "lose_worker":
                self.lose_worker()
            case _:
                for ends in self.ends[i : i + 1]:
                    self.act_on(ends, action, amount)
        self.check()

    def act_on(self, ends: TwoEnds, action: str, amount: int) -> None:
        seconds = DURATIONS[amount % len(DURATIONS)]
        match action:
            case "deliver_up":
                for _ in range(1 + amount // 3):
                    ends.deliver_up(self.now)
            case "deliver_down":
                for _ in range(1 + amount // 3):
                    ends.deliver_down(self.now)
            case "finish_opening":
                self.num_opened += 1
                ends.finish_opening(self.num_opened)
            case _ if ends.is_over:
                pass
            case "draft":
                for _ in range(1 + amount):
                    self.step(ends, 0.002)
            case "start_step":
                ends.board.start_step()
            case "finish_step":
                self.now += seconds
                ends.send(ends.board.finish_step(seconds, self.now))
            case "fail_step":
                ends.board.start_step()
                ends.send(ends.board.fail_step())
            case "lose_step":
                ends.board.start_step()
                ends.send(ends.board.lose_step())
            case "power_off":
                ends.board.has_power = False
            case "repeat_draft":
                ends.repeat_draft()
            case "cancel":
                ends.cancel()
            case "lose_link":
                ends.connect()
            case "cut_link":
                self.leave_the_turn(ends)
                ends.connect(keeps=True)
            case "restart_board":
                self.leave_the_turn(ends)
                ends.restart_board()
            case _:
                raise AssertionError(action)

    def turn(self) -> None:
        """Everybody does what there is to be done, once."""
        self.now += 1e-6
        self.start_round()
        is_idle = self.running is None
        for ends in self.ends:
            for _ in range(len(ends.up) + 1):
                ends.deliver_up(self.now)
            self.num_opened += 1
            ends.finish_opening(self.num_opened)
            while ends.down:
                ends.deliver_down(self.now)
            if not ends.is_over:
                ends.board.start_step()
                is_idle = is_idle and ends.is_quiet and not ends.board.is_computing
                ends.send(ends.board.finish_step(0.0, self.now))
        self.finish_round(0.0)
        deadline = self.planner.next_deadline()
        if is_idle and deadline is not None:
            self.now = max(self.now, deadline)  # as the engine does; only dead boards let it

    def leave_the_turn(self, ends: TwoEnds) -> None:
        """Who comes back stands behind all who wait to be served."""
        if ends.stream is not None:
            self.num_unserved.pop(ends.stream.number, None)

    def step(self, ends: TwoEnds, seconds: float) -> None:
        ends.board.start_step()
        self.now += seconds
        ends.send(ends.board.finish_step(seconds, self.now))

    # --- rounds --------------------------------------------------------------------------------

    def start_round(self) -> None:
        if self.running is not None:
            return
        streams = self.planner.streams
        # Reckoned as the planner does, to the last bit: a wait may end just as a round starts.
        recent = [s for s in streams.values() if self.now < s.waiting_since + TIMEOUT_SECONDS]
        waiting = {stream.number for stream in recent if stream.waits_for_board}
        owing = {stream.number for stream in recent if owes_a_draft(stream)}
        self.running = self.planner.start_round(self.now)
        if self.running is None:
            return
        served = {item.stream for item in self.running.items}
        assert set() == served & waiting
        assert not (self.settings.is_barrier and owing)
        self.check_limits(self.running)
        for item in self.running.items:
            check_drafts(item, streams[item.stream])
        # Who has no place in the cache waits for that instead.
        self.num_unserved = {n: count for n, count in self.num_unserved.items() if n in streams}
        for number, stream in streams.items():
            is_idle = number not in served and not stream.waits_for_board
            self.num_unserved[number] = self.num_unserved.get(number, 0) + 1 if is_idle else 0
            assert self.num_unserved[number] <= self.max_streams

    def finish_round(self, seconds: float) -> None:
        if self.running is None:
            return
        running, self.running = self.running, None
        self.now += seconds
        for item in running.items:
            self.cache.write(item)
        for item in running.items:
            assert tokens_to_read(item, self.planner.streams[item.stream]) == self.cache.read(item)
        outcome = self.target.run(running)
        results = self.planner.finish_round(running, outcome, max(seconds, 0.001), self.now)
        if self.plans_first:
            self.start_round()
        for result in results:
            assert result.failure is None
            for ends in self.ends:
                ends.deliver_result(result)

    def lose_worker(self) -> None:
        """The target is gone in mid-round, if one runs: the next one's cache is empty."""
        if self.running is not None:
            self.running = None
            for result in take_back_round(self.planner):
                assert result.failure is None
                for ends in self.ends:
                    ends.deliver_result(result)
        blocks, num_preemptions = self.planner.blocks, self.planner.admission.num_preemptions
        lose_cache(self.planner, BlockPool(blocks.num_blocks, blocks.block_tokens), self.now)
        self.planner.admission.num_preemptions = num_preemptions  # those for want of room
        self.planner.quarantine = Quarantine()  # that no stream is guilty is known here
        self.cache = CacheWatch(BLOCK_TOKENS)
        self.num_unserved = {}

    def check_limits(self, round_: Round) -> None:
        limits = self.settings.schedule.limits
        assert round_.num_tokens <= limits.max_round_tokens
        if limits.budget_tokens is not None:
            checks = [item.draft_check for item in round_.items if item.draft_check is not None]
            num_drafts = sum(len(check.draft_token_ids) for check in checks)
            assert num_drafts <= limits.budget_tokens
        num_prefill = sum(
            len(item.token_ids) - (len(item.draft_check.draft_token_ids) if item.draft_check else 0)
            for item in round_.items
            if self.planner.streams[item.stream].num_pending_tokens > 1
        )
        assert num_prefill <= self.settings.prefill_chunk_tokens
        blocks = [block for item in round_.items for block in item.block_table]
        assert len(set(blocks)) == len(blocks)

    # --- what must hold ------------------------------------------------------------------------

    @invariant()
    def check(self) -> None:
        for ends, alone in zip(self.ends, self.alone, strict=True):
            check_agreement(ends)
            if alone is not None:
                check_output(ends, alone)
        self.planner.blocks.check_integrity()

    def teardown(self) -> None:
        if not hasattr(self, "planner"):
            return
        num_timeouts = self.planner.patience.num_draft_timeouts
        for _ in range(self.max_settling_turns):
            if all(ends.is_over for ends in self.ends):
                break
            self.turn()
        assert all(ends.is_over for ends in self.ends), "a stream never ended"
        # A dead board is waited for once, and once more if a draft of it was on its way; for the
        # others time stands still, but for waits that were over already.
        assert self.planner.patience.num_draft_timeouts - num_timeouts <= 2 * self.max_streams
        assert ({}, {}, None) == (self.planner.streams, self.planner.queue, self.running)
        assert self.planner.blocks.num_blocks == self.planner.blocks.num_free_blocks
        self.check()
        for ends in self.ends:
            if ends.stream is not None:
                assert ends.stream.output_ids == ends.board.stream.output_ids


class CrowdedEnds(BothEnds):
    """The same in a cache that is too small for what is going on."""

    max_streams = MAX_CROWDED_STREAMS
    max_settling_turns = MAX_CROWDED_SETTLING_TURNS

    @initialize(wishes=wishes_of(CROWDED_WISHES, MAX_CROWDED_STREAMS), **any_of(CROWDED_LIMITS))
    def begin(self, wishes: list[Wish], **chosen: Any) -> None:
        self.set_up(wishes, **chosen)


def owes_a_draft(stream: Stream) -> bool:
    path = stream.path
    return stream.board_is_ready and stream.window > 0 and not path.live and not path.has_passed


def tokens_to_read(item: RoundItem, stream: Stream) -> tuple[int, ...]:
    known = (*stream.request.prompt_ids, *stream.output_ids)
    if item.draft_check is None:
        return known[: item.context_tokens]
    return (*known, *item.draft_check.draft_token_ids)


def check_drafts(item: RoundItem, stream: Stream) -> None:
    """Drafts are the first live tokens; a sampled one is never passed over."""
    if item.draft_check is None:
        return
    drafts = item.draft_check.draft_token_ids
    live = stream.path.live
    assert stream.position == item.draft_check.position
    assert stream.position + len(drafts) < stream.request.max_output_tokens
    assert tuple(token.token_id for token in live[: len(drafts)]) == drafts
    if stream.request.mode == "rejection":
        ends = [i for i, token in enumerate(live) if token.row is None or token.ends_chunk]
        last = live[ends[0]] if ends else None
        num_whole = ends[0] + (last.row is not None) if last is not None else 0
        assert len(item.draft_check.rows) == len(drafts) <= num_whole
        assert item.draft_check.draws_bonus == (len(drafts) == num_whole)
        assert drafts or item.draft_check.draws_bonus


def check_agreement(ends: TwoEnds) -> None:
    """With nothing on its way both ends know the same."""
    stream, board = ends.stream, ends.board.stream
    if stream is None or stream.finish is not None or not ends.is_quiet:
        return
    assert stream.output_ids == board.output_ids
    # In `coupled` a board is told a length where its stream sits out for it; else it sends at once.
    lengths = {stream.draft_length} | (set() if stream.request.mode == "rejection" else {0})
    assert stream.window == board.window
    assert board.draft_length in lengths
    assert place(stream.path) == place(board.path)


def place(path: DraftPath) -> tuple[int, int, tuple[int, ...], bool]:
    return path.base, path.position, tuple(t.token_id for t in path.live), path.has_passed


def check_output(ends: TwoEnds, alone: list[int]) -> None:
    """Both ends hold a beginning of the target's own text; a perfect draft model drafts it, too."""
    board = ends.board.stream
    position = len(board.output_ids)
    assert alone[:position] == board.output_ids
    if ends.stream is not None:
        assert alone[: ends.stream.position] == ends.stream.output_ids
    if ends.board.model.disagreement == 0 and not board.drafter_choice.is_on:
        drafted = [token.token_id for token in (*board.path.live, *board.unsent.tokens)]
        assert alone[position:][: len(drafted)] == drafted


def target_alone(request: StreamRequest) -> list[int]:
    """What the target says without any draft, as long as it may."""
    tokens = list(request.prompt_ids)
    for position in range(request.max_output_tokens):
        probs = dense_probabilities(MODEL.logits(tokens), request.sampling)
        tokens.append(draw_dense(probs, request.seed, position, Domain.COUPLED))
    return tokens[len(request.prompt_ids) :]


STEPS = settings(stateful_step_count=10, deadline=None)
TIMEOUT = [pytest.mark.timeout(400)]  # Hypothesis shrinks for up to five minutes

TestBothEnds = BothEnds.TestCase
TestBothEnds.settings = settings(STEPS, max_examples=100)
TestBothEnds.pytestmark = TIMEOUT

TestCrowdedEnds = CrowdedEnds.TestCase
TestCrowdedEnds.settings = settings(STEPS, max_examples=40)
TestCrowdedEnds.pytestmark = TIMEOUT


@pytest.mark.parametrize("first_seed", range(0, NUM_SCENARIOS, 30))
def test_both_ends_in_many_random_scenarios(first_seed: int) -> None:
    """Hypothesis finds the short ways to a failure; plain chance meets more of the long ones."""
    for seed in range(first_seed, first_seed + 30):
        world = play_scenario(BothEnds(), seed, WISHES, LIMITS)
        assert 0 == world.planner.admission.num_preemptions


@pytest.mark.parametrize("first_seed", range(0, NUM_CROWDED_SCENARIOS, 30))
def test_both_ends_in_many_crowded_scenarios(first_seed: int) -> None:
    num_preemptions = 0
    for seed in range(first_seed, first_seed + 30):
        world = play_scenario(CrowdedEnds(), seed, CROWDED_WISHES, CROWDED_LIMITS)
        num_preemptions += world.planner.admission.num_preemptions
    assert num_preemptions >= 30


def play_scenario(
    world: BothEnds, seed: int, wishes: dict[str, list[Any]], limits: dict[str, list[Any]]
) -> BothEnds:
    """Play one life of a world, all by chance; returns the world when all streams have ended."""
    choices = random.Random(seed)
    try:
        chosen = {name: choices.choice(values) for name, values in limits.items()}
        world.set_up(
            [
                Wish(**{name: choices.choice(values) for name, values in wishes.items()})
                for _ in range(choices.randint(1, world.max_streams))
            ],
            **chosen,
        )
        has_mishaps = choices.random() < 0.5
        for _ in range(5):
            world.choose_lengths([choices.randint(0, 8) for _ in range(world.max_streams)])
            world.live(choices, 50, has_mishaps)
        world.teardown()
    except Exception as error:
        error.add_note(f"scenario {seed}")
        raise
    return world
