"""The cost curve is measured on a grid that fits the target and that the curve can be made of."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.speculation.scripted_model import ScriptedModel
from verifier.cost_curve.curve import CostCurve
from verifier.cost_curve.look_back import Chunk, chunks_of
from verifier.cost_curve.measurement import (
    QUICK_ON_CPU,
    QUICK_ON_GPU,
    WHOLE_ON_CPU,
    WHOLE_ON_GPU,
    CurveGrid,
    GridSize,
    measure_chunks,
    measure_curve,
    measure_rounds,
    warm_up_rounds,
)
from verifier.target.round import Round, RoundOutcome
from verifier.target.scripted_target import ScriptedTarget

SIZES = (QUICK_ON_CPU, QUICK_ON_GPU, WHOLE_ON_CPU, WHOLE_ON_GPU)


class RecordingTarget(ScriptedTarget):
    """Checks the rounds that it is given, and takes no time for them."""

    def __init__(self, *, num_blocks: int, block_tokens: int = 16, context_tokens: int) -> None:
        super().__init__(
            ScriptedModel(8, seed=1),
            num_blocks=num_blocks,
            block_tokens=block_tokens,
            context_tokens=context_tokens,
        )
        self.rounds: list[Round] = []

    def run(self, round_: Round) -> RoundOutcome:
        for item in round_.items:
            assert item.context_tokens <= max(self.context_tokens, len(item.token_ids))
            assert len(item.block_table) * self.block_tokens >= item.context_tokens
            assert set(item.block_table) <= set(range(self.num_blocks))
            assert item.token_ids
        self.rounds.append(round_)
        return RoundOutcome((None,) * len(round_.items), 0.0, 0.0)


def scripted(context_tokens: int = 4096, num_blocks: int = 256) -> ScriptedTarget:
    return ScriptedTarget(
        ScriptedModel(8, seed=1), num_blocks=num_blocks, context_tokens=context_tokens
    )


def test_a_start_on_a_cpu_measures_powers_of_two_at_two_contexts() -> None:
    grid = CurveGrid.of(scripted(), 512, QUICK_ON_CPU)
    assert (1, 2, 4, 8, 16, 32, 64, 128) == grid.num_tokens
    assert (128, 1024) == grid.context_tokens
    assert tuple(Chunk(count, 2048) for count in (16, 64, 80)) == grid.chunks
    assert 8 * 2 * 4 + 3 * 3 == grid.num_rounds


def test_a_profile_on_a_gpu_reaches_the_longest_round_and_the_whole_cache() -> None:
    grid = CurveGrid.of(scripted(num_blocks=1 << 14), 1500, WHOLE_ON_GPU)
    assert grid.num_tokens[-2:] == (1024, 1500)
    assert (1024, 4096, 16384, 65536, 262144) == grid.context_tokens


def test_on_a_gpu_both_sides_of_every_step_of_the_graphs_are_measured() -> None:
    grid = CurveGrid.of(scripted(num_blocks=1 << 14), 1024, QUICK_ON_GPU)
    assert (1, 2, 4, 8, 16, 32, 64, 128, 129, 160, 161, 192, 193) == grid.num_tokens[:13]
    assert (896, 897, 960, 961, 1024) == grid.num_tokens[-5:]


def test_a_grid_stays_within_a_small_cache() -> None:
    grid = CurveGrid.of(scripted(num_blocks=4), 512, WHOLE_ON_CPU)
    assert (1, 2, 4, 8, 16, 32, 64) == grid.num_tokens
    assert (64,) == grid.context_tokens
    assert () == grid.chunks


def test_chunks_are_measured_as_deep_as_a_stream_can_be() -> None:
    grid = CurveGrid.of(scripted(context_tokens=40_000, num_blocks=4096), 1024, QUICK_ON_GPU)
    assert (16, 64, 80, 256) == tuple(sorted({chunk.num_tokens for chunk in grid.chunks}))
    assert {0, 1024, 16384, 40_000 - 256} == {chunk.depth_tokens for chunk in grid.chunks}
    in_a_small_cache = CurveGrid.of(scripted(40_000, num_blocks=100), 64, QUICK_ON_GPU)
    assert (16, 64) == tuple(sorted({chunk.num_tokens for chunk in in_a_small_cache.chunks}))
    assert {0, 1024, 1600 - 64} == {chunk.depth_tokens for chunk in in_a_small_cache.chunks}


def test_rounds_of_one_token_alone_would_make_no_curve() -> None:
    assert (1, 2) == CurveGrid.of(scripted(), 1, QUICK_ON_CPU).num_tokens


@pytest.mark.parametrize("size", SIZES)
@given(st.integers(1, 400), st.sampled_from([1, 16, 48]), st.integers(1, 5000), st.integers(1, 700))
def test_every_round_of_a_grid_can_be_run(
    size: GridSize, num_blocks: int, block_tokens: int, context_tokens: int, max_round_tokens: int
) -> None:
    target = RecordingTarget(
        num_blocks=num_blocks, block_tokens=block_tokens, context_tokens=context_tokens
    )
    grid = CurveGrid.of(target, max_round_tokens, size)
    samples = measure_rounds(target, grid)
    assert list(product(grid.num_tokens, grid.context_tokens)) == [(t, c) for t, c, _ in samples]
    assert [tokens for tokens, _, _ in samples] == [
        round_.num_tokens for round_ in target.rounds[: len(samples)]
    ]
    num_before = len(target.rounds)
    assert [chunk for chunk, _ in measure_chunks(target, grid)] == list(grid.chunks)
    runs = [(chunks_of(round_), round_.num_tokens) for round_ in target.rounds[num_before:]]
    assert [((chunk,), chunk.num_tokens) for chunk in grid.chunks] * 3 == runs
    assert grid.num_rounds == len(target.rounds)


def test_a_round_has_as_many_streams_as_its_context_needs() -> None:
    target = RecordingTarget(num_blocks=1024, context_tokens=1000)
    measure_rounds(target, CurveGrid((4, 64), (400, 3000), num_repeats=1))
    few, more, many, enough = target.rounds[:4]
    assert [400] == [item.context_tokens for item in few.items]
    assert [1000, 1000, 1000] == [item.context_tokens for item in more.items]
    assert [50] * 8 == [item.context_tokens for item in many.items]
    assert [375] * 8 == [item.context_tokens for item in enough.items]


def test_each_point_is_its_fastest_repeat_after_the_first() -> None:
    # One start and one end for each of 2 + 2 × 2 rounds.
    seconds = iter([0.1, 0.1, 5.0, 7.0, 6.0, 4.0])

    class Sleepless(RecordingTarget):
        def run(self, round_: Round) -> RoundOutcome:
            clock[0] += next(seconds)
            return super().run(round_)

    clock = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("verifier.cost_curve.measurement.time.monotonic", lambda: clock[0])
        samples = measure_rounds(
            Sleepless(num_blocks=64, context_tokens=1024), CurveGrid((1, 2), (128,), num_repeats=2)
        )
    assert [(1, 128, 5.0), (2, 128, 4.0)] == [(t, c, pytest.approx(s)) for t, c, s in samples]


def test_longer_rounds_are_seen_to_take_longer() -> None:
    target = ScriptedTarget(
        ScriptedModel(8, seed=1), num_blocks=256, delay_seconds=lambda tokens: 0.0005 * tokens
    )
    grid = CurveGrid((1, 32), (128,), num_repeats=2)
    curve = CostCurve.from_samples(measure_rounds(target, grid))
    assert curve.round_seconds(32, 128) > curve.round_seconds(1, 128) + 0.01


class LookingBack(RecordingTarget):
    """Takes 10 ms, 0.1 ms for each token and a microsecond for each pair that a chunk makes."""

    now = 0.0

    def run(self, round_: Round) -> RoundOutcome:
        pairs = sum(chunk.num_tokens * chunk.depth_tokens for chunk in chunks_of(round_))
        self.now += 0.01 + 1e-4 * round_.num_tokens + 1e-6 * pairs
        return super().run(round_)


def test_what_chunks_take_beyond_other_rounds_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    target = LookingBack(num_blocks=1024, context_tokens=8192)
    monkeypatch.setattr("verifier.cost_curve.measurement.time.monotonic", lambda: target.now)
    curve = measure_curve(target, CurveGrid.of(target, 512, QUICK_ON_CPU))
    for chunk in (Chunk(16, 2048), Chunk(64, 500), Chunk(160, 8000)):
        seconds = 0.01 + 1e-4 * chunk.num_tokens + 1e-6 * chunk.num_tokens * chunk.depth_tokens
        priced = curve.round_seconds(chunk.num_tokens, sum(chunk), [chunk])
        assert seconds == pytest.approx(priced)


def test_progress_is_told_after_every_round() -> None:
    told: list[None] = []
    chunks = (Chunk(16, 64), Chunk(64, 64))
    grid = CurveGrid((1, 2), (128, 256), num_repeats=2, chunks=chunks)
    target = RecordingTarget(num_blocks=64, context_tokens=1024)
    measure_curve(target, grid, None, lambda: told.append(None))
    assert grid.num_rounds == len(told)


@settings(max_examples=15)  # of some hundred rounds each
@given(st.integers(2, 2000), st.integers(40, 3000), st.integers(64, 4096))
def test_warm_up_rounds_fit_the_target(
    max_round_tokens: int, num_blocks: int, context_tokens: int
) -> None:
    target = RecordingTarget(num_blocks=num_blocks, context_tokens=context_tokens)
    for round_ in warm_up_rounds(target, max_round_tokens):
        assert round_.num_tokens <= max_round_tokens
        target.run(round_)


def test_warm_up_rounds_process_rows_once_so_that_no_request_waits_for_a_kernel() -> None:
    *others, last = warm_up_rounds(scripted(num_blocks=4096), 1024)
    asking = [item.draft_check for item in last.items if item.draft_check and item.draft_check.seen]
    assert 1 == len(asking)
    assert asking[0].processing is not None
    assert asking[0].processing.processors.has_penalties
    assert not any(
        item.draft_check and item.draft_check.processing
        for round_ in others
        for item in round_.items
    )


def test_warm_up_rounds_have_few_long_drafts_and_many_short_ones() -> None:
    rounds = warm_up_rounds(scripted(num_blocks=4096), 1024)
    forms = {
        (round_.num_tokens, max(len(item.token_ids) for item in round_.items)): len(round_.items)
        for round_ in rounds
    }
    assert {4, 8, 16} == {longest for count, longest in forms if count == 256}
    assert {count for count, _ in forms} >= {4, 8, 16, 64, 128, 192, 256, 512, 1024}
