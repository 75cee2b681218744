"""A round that fails is run again without the items that make it fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pytest

from shared.speculation.sampling import GREEDY
from tests.support.ends.loopback import round_settings
from tests.support.ends.scripted import TARGET, VOCAB_SIZE, scripted_service
from tests.verifier.engine.test_engine import Parts
from verifier.engine import round_run
from verifier.engine.round_run import run_round
from verifier.rounds.bisection import MAX_RERUNS
from verifier.target.round import DraftCheck, ItemFailure, Round, RoundItem, RoundOutcome
from verifier.target.scripted_target import ScriptedTarget
from verifier.target.target import DeviceLost, OutOfMemory
from verifier.target.token_masks import PackedMasks

CHECK = DraftCheck((), (), "coupled", GREEDY, seed=1, position=0, draws_bonus=True)


class TellingMasks:
    """Implements `TokenMasks`: everything may come, and the same follows with certainty."""

    def __init__(self) -> None:
        self.told: list[tuple[int, ...]] = []

    def begin(self) -> None:
        """They are there."""

    def wait(self, deadline: float) -> PackedMasks | None:
        return np.full((3, VOCAB_SIZE // 32), 0xFFFFFFFF, np.uint32)

    def advance(self, token_ids: Sequence[int], seconds: float) -> tuple[int, ...]:
        self.told.append(tuple(token_ids))
        return (5, 6)


class NoMasks(TellingMasks):
    """Masks that never come."""

    def wait(self, deadline: float) -> PackedMasks | None:
        return None


def test_grammars_are_told_once_what_came_and_say_what_follows() -> None:
    masks, never = TellingMasks(), NoMasks()
    round_ = round_of(3)
    items = [
        msgspec.structs.replace(item, draft_check=msgspec.structs.replace(CHECK, masks=held))
        for item, held in zip(round_.items[:2], (masks, never), strict=True)
    ]
    with_grammars = Round((*items, *round_.items))
    outcome = run_round(ScriptedTarget(TARGET), with_grammars)
    assert isinstance(outcome, RoundOutcome)
    held, failed, *free = outcome.items
    assert held is not None
    assert failed is not None
    assert [(held.token_id,)] == masks.told
    assert (5, 6) == held.forced_ids
    assert (ItemFailure.GRAMMAR, [], ()) == (failed.failure, never.told, failed.forced_ids)
    assert list(ScriptedTarget(TARGET).run(round_).items) == free


class FailingTarget(ScriptedTarget):
    """Fails in rounds of which `error_of` says so."""

    def __init__(self, error_of: Callable[[Round], Exception | None]) -> None:
        super().__init__(TARGET)
        self.error_of = error_of
        self.num_runs = 0

    def run(self, round_: Round) -> RoundOutcome:
        self.num_runs += 1
        outcome = super().run(round_)  # some of it may be stored when the rest fails
        error = self.error_of(round_)
        if error is not None:
            raise error
        return outcome


def round_of(num_items: int) -> Round:
    """Every third item is a part of a prompt."""
    items = [
        RoundItem(i, (1, 2, 1 + i), 0, (i,), None if i % 3 == 2 else CHECK)
        for i in range(num_items)
    ]
    return Round(tuple(items))


def failing_on(*streams: int, error: Exception) -> FailingTarget:
    return FailingTarget(
        lambda round_: error if {item.stream for item in round_.items} & {*streams} else None
    )


@pytest.mark.parametrize("guilty", [(0,), (5,), (2, 11), (0, 1, 2, 3)])
@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ValueError("bad"), ItemFailure.EXCEPTION),
        (OutOfMemory("no room"), ItemFailure.OUT_OF_MEMORY),
        (MemoryError(), ItemFailure.OUT_OF_MEMORY),
    ],
)
def test_the_guilty_items_fail_and_the_others_get_what_they_would_have_got(
    guilty: tuple[int, ...], error: Exception, cause: ItemFailure
) -> None:
    round_ = round_of(12)
    expected = ScriptedTarget(TARGET).run(round_).items
    target = failing_on(*guilty, error=error)
    outcome = run_round(target, round_)
    assert isinstance(outcome, RoundOutcome)
    for i, (its_outcome, sound) in enumerate(zip(outcome.items, expected, strict=True)):
        if i in guilty:
            assert its_outcome is not None
            assert cause == its_outcome.failure
        else:
            assert sound == its_outcome
    assert target.num_runs - 1 == outcome.num_reruns


def test_prompts_that_have_no_room_together_are_read_one_after_the_other() -> None:
    target = FailingTarget(
        lambda round_: OutOfMemory("no room") if round_.num_tokens > 10 else None
    )
    outcome = run_round(target, round_of(4))
    assert isinstance(outcome, RoundOutcome)
    assert ScriptedTarget(TARGET).run(round_of(4)).items == outcome.items


def test_a_sound_round_runs_once() -> None:
    target = FailingTarget(lambda round_: None)
    outcome = run_round(target, round_of(5))
    assert isinstance(outcome, RoundOutcome)
    assert (1, 0) == (target.num_runs, outcome.num_reruns)


def test_a_lost_device_ends_all_at_once_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = FailingTarget(lambda round_: DeviceLost("unspecified launch failure"))
    assert ItemFailure.DEVICE_LOST is run_round(target, round_of(40))
    assert 1 == target.num_runs == len(caplog.records)


def test_an_exception_that_hits_everything_ends_within_the_bound_and_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    target = FailingTarget(lambda round_: ValueError("all"))
    assert ItemFailure.EXCEPTION is run_round(target, round_of(200))
    assert 1 + MAX_RERUNS == target.num_runs
    assert 1 == len(caplog.records)


def test_no_part_is_run_again_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not decided ends with the others."""
    monkeypatch.setattr(round_run, "LEAST_RERUN_SECONDS", 0.0)
    monkeypatch.setattr(round_run, "RERUN_FACTOR", 0.0)
    target = failing_on(3, error=ValueError("bad"))
    assert ItemFailure.EXCEPTION is run_round(target, round_of(8))
    assert 1 == target.num_runs


def test_one_stream_of_many_ends_and_the_others_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through planner and engine, in every round of a stream's life."""
    parts = Parts()
    parts.target.gate.set()
    run_sound = parts.target.target.run
    guilty: set[int] = set()

    def run(round_: Round) -> RoundOutcome:
        if guilty & {item.stream for item in round_.items if item.num_cached_tokens > 4}:
            raise ValueError("bad")
        return run_sound(round_)

    monkeypatch.setattr(parts.target.target, "run", run)

    async def play() -> int:
        streams = [await parts.open(max_tokens=6) for _ in range(7)]
        guilty.add(streams[3].number)
        await parts.play()
        return streams[3].number

    number = asyncio.run(play())
    assert [number] == [r.stream.number for r in parts.delivered if r.failure is not None]
    others = {r.stream.number: r.stream.position for r in parts.delivered} | {number: 0}
    assert [0, *[6] * 6] == sorted(others.values())
    alone = scripted_service(settings=round_settings())
    assert alone.planner.blocks.num_free_blocks == parts.service.planner.blocks.num_free_blocks
    for result in parts.delivered:
        parts.service.metrics.observe_result(result)
    page = parts.service.metrics.page().decode()
    assert 'goodspeed_item_failures_total{cause="exception"} 1.0' in page
    assert 'goodspeed_item_failures_total{cause="out_of_memory"} 0.0' in page
