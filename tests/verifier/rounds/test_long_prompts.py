"""A prompt of 131,072 tokens beside 16 streams, in virtual time: their rounds keep to the limit.

What a round truly takes is written down here, as the H100 takes it with Llama-3.1-8B's shape: a
step for every 64 tokens, keys that are read once for each stream, and 64 rows of queries at a time
that go over all keys before them.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.support.ends.limits import make_round_settings
from tests.support.ends.long_prompt import percentile
from tests.support.ends.planned_prompt import Played, play_beside, prompt_stream
from tests.support.models.counting_target import VOCAB_SIZE, CountingTarget
from verifier.cost_curve.curve import CostCurve, CostGrid
from verifier.cost_curve.measurement import QUICK_ON_GPU, CurveGrid, measure_curve
from verifier.policies import FixedPolicy
from verifier.rounds.blocks import BlockPool
from verifier.rounds.planner import RoundPlanner
from verifier.rounds.settings import RoundsSection
from verifier.target.round import Round, RoundItem

NUM_OTHERS, NUM_TOKENS = 16, 131_072
CONTEXT_TOKENS = NUM_TOKENS + 1024
# What is wrong in a curve takes some rounds to be learned; the limit holds for those after them.
LEARNING_ROUNDS = 150
CACHE_TOKENS = CONTEXT_TOKENS + NUM_OTHERS * 12_000


def h100_seconds(
    round_: Round, *, members: int = 4, window: int | None = None, shared_layers: float = 1.0
) -> float:
    """`members` query heads share a key; `window`: of all layers but this part of them."""
    padded = -(-round_.num_tokens // 64) * 64
    seconds = 7.0e-3 + 22e-6 * max(padded - 64, 0)
    for item in round_.items:
        deep = item.context_tokens
        near = deep if window is None else min(deep, window)
        seen = shared_layers * deep + (1.0 - shared_layers) * near
        seconds += max(42e-9 * seen, _tile_tokens(item, members) * 1.9e-9 * seen)
    return seconds


def _tile_tokens(item: RoundItem, members: int) -> int:
    """Tokens of an item, with the unused rows of its last tile; those of 64 rows are 16."""
    of_tile = 64 // members
    return -(-len(item.token_ids) // of_tile) * of_tile


class Machine:
    """A target and the clock that it moves on; every round takes a little more or less."""

    def __init__(self, seconds: Callable[[Round], float], seed: int = 1) -> None:
        self.now = 0.0
        self._random = random.Random(seed)
        self._seconds = seconds
        self.speed = 1.0
        self.target = CountingTarget(CONTEXT_TOKENS, CACHE_TOKENS, self._taken, self._sleep)

    def _taken(self, round_: Round) -> float:
        return self._seconds(round_) / self.speed * self._random.lognormvariate(0.0, 0.02)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def curve(self, monkeypatch: pytest.MonkeyPatch) -> CostCurve:
        """As the verifier measures it at its start; the target forgets what it was asked."""
        target = CountingTarget(CONTEXT_TOKENS, CACHE_TOKENS, self._taken, self._sleep)
        monkeypatch.setattr(target, "_run", lambda item: None)
        monkeypatch.setattr("verifier.cost_curve.measurement.time.monotonic", lambda: self.now)
        return measure_curve(target, CurveGrid.of(target, 1024, QUICK_ON_GPU))


def play(
    machine: Machine, curve: CostCurve, *num_prompt_tokens: int, device_limit: float = 1.0
) -> Played:
    """Every stream is a device's own; one device's prompts may do what all may, if not told."""
    settings = make_round_settings(device_prefill_slowdown_limit=device_limit)
    blocks = BlockPool(machine.target.num_blocks, machine.target.block_tokens)
    planner = RoundPlanner(settings, FixedPolicy(0), curve, blocks)
    others = [prompt_stream(number, 128, 11_000, VOCAB_SIZE) for number in range(NUM_OTHERS)]
    long = [
        prompt_stream(number, num_tokens, 1, VOCAB_SIZE)
        for number, num_tokens in enumerate(num_prompt_tokens, start=NUM_OTHERS)
    ]
    return play_beside(
        planner, machine.target, lambda: machine.now, others, long, most_seconds=300.0
    )


def check(played: Played, most: float = 2.1) -> None:
    """The target asserts that it is asked to read each token once and in order."""
    assert played.ratio <= most
    assert played.is_read
    assert 0 == played.num_lost_tokens


def scaled(curve: CostCurve, factor: float) -> CostCurve:
    """The same curve with so many times the price of looking back."""
    grid = msgspec.json.decode(curve.to_json(), type=CostGrid)
    assert grid.look_back is not None
    rows = tuple(tuple(factor * cell for cell in row) for row in grid.look_back.seconds)
    look_back = msgspec.structs.replace(grid.look_back, seconds=rows)
    return CostCurve(msgspec.structs.replace(grid, look_back=look_back))


def test_rounds_beside_a_long_prompt_keep_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(h100_seconds)
    played = play(machine, machine.curve(monkeypatch), NUM_TOKENS)
    check(played)
    errors = [round_.seconds / round_.expected_seconds for round_ in played.beside]
    assert percentile(errors, 0.01) > 0.9
    assert percentile(errors, 0.99) < 1.1
    sizes = [round_.chunk_tokens for round_ in played.beside]
    assert sizes[0] > 250
    assert min(sizes[:-1]) >= 16  # it gets on, as deep as it is
    assert sum(round_.seconds for round_ in played.beside) < 45.0


@pytest.mark.parametrize("num_tokens", [(16_384,), (8_192, 8_192)])
def test_prompts_of_one_device_or_two_are_hardly_noticed_by_others(
    num_tokens: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(h100_seconds)
    limit = RoundsSection().device_prefill_slowdown_limit
    played = play(machine, machine.curve(monkeypatch), *num_tokens, device_limit=limit)
    check(played, most=1.2)
    # Each device's first round is its turn.
    assert max(round_.chunk_tokens for round_ in played.beside[:1]) > 150
    assert max(round_.chunk_tokens for round_ in played.beside[1:400]) < 100


def test_a_curve_that_knows_no_chunks_would_break_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(h100_seconds)
    grid = msgspec.json.decode(machine.curve(monkeypatch).to_json(), type=CostGrid)
    curve = CostCurve(msgspec.structs.replace(grid, look_back=None))
    assert play(machine, curve, NUM_TOKENS).ratio > 4.0


@pytest.mark.parametrize("factor", [0.0, 0.1, 10.0])
def test_a_wrong_price_is_put_right_while_the_prompt_is_read(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(h100_seconds)
    played = play(machine, scaled(machine.curve(monkeypatch), factor), 65_536)
    check(played._replace(beside=played.beside[LEARNING_ROUNDS:]), most=2.15)
    last = [round_.seconds / round_.expected_seconds for round_ in played.beside[-100:]]
    assert 1.0 == pytest.approx(percentile(last, 0.5), rel=0.03)


@pytest.mark.parametrize(
    "changes",
    [
        {"members": 8},
        {"window": 1024, "shared_layers": 1 / 6},  # as Gemma 3 has them
        {"window": 4096, "shared_layers": 0.0},  # as Mistral 7B 0.1 had them
    ],
)
def test_layers_with_windows_and_other_groups_keep_to_the_limit(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(functools.partial(h100_seconds, **changes))
    check(play(machine, machine.curve(monkeypatch), 65_536))


@pytest.mark.parametrize("speed", [0.7, 1.4])
def test_a_machine_that_changed_its_speed_keeps_to_the_limit(
    speed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(h100_seconds)
    curve = machine.curve(monkeypatch)
    machine.speed = speed
    played = play(machine, curve, 65_536)
    check(played._replace(beside=played.beside[LEARNING_ROUNDS:]), most=2.15)


def test_long_prompts_of_several_devices_keep_to_the_limit_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine(h100_seconds)
    check(play(machine, machine.curve(monkeypatch), 30_000, 20_000, 10_000))
