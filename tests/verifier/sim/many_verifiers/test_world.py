"""Many verifiers in arrays: the same every time, and as one verifier with messages fares."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import msgspec
import numpy as np
import pytest

from verifier.config import RoundsSection
from verifier.policies import RatePolicy
from verifier.sim.many_verifiers.ahead import AheadArm, PolicyDecider
from verifier.sim.many_verifiers.arms import WaitingArm
from verifier.sim.many_verifiers.drawing import draw_devices, run_lengths
from verifier.sim.many_verifiers.outcome import ManyOutcome
from verifier.sim.many_verifiers.parts import Part
from verifier.sim.many_verifiers.setting import ManySetting, RoutingName, TargetKind
from verifier.sim.many_verifiers.windows import PerfectWindows, StaticWindows
from verifier.sim.many_verifiers.world import ManyWorld
from verifier.sim.outcome import outcome_of
from verifier.sim.scenario import BoardGroup, Scenario, ScenarioSection, TargetSection
from verifier.sim.world import play

H100 = TargetKind("H100", 0.040, 0.00016, 0.0001)
SETTING = ManySetting(
    targets=(H100, H100.slower("A100", 1.5)), num_devices=12, seconds=6.0, warm_up_seconds=1.0
)


ROUTINGS = sorted(set(get_args(RoutingName)) - {"pinned"})


def ahead(setting: ManySetting) -> AheadArm:
    return AheadArm(PolicyDecider([RatePolicy() for _ in setting.targets], 10.0))


def waiting(setting: ManySetting, window: int) -> WaitingArm:
    return WaitingArm(setting, StaticWindows(window))


def outcome(setting: ManySetting, arm: AheadArm | WaitingArm, seed: int = 1) -> ManyOutcome:
    return ManyWorld(setting, seed, arm).play()


def test_a_run_is_a_function_of_setting_and_seed() -> None:
    first, again, other = (outcome(SETTING, ahead(SETTING), seed) for seed in (1, 1, 2))
    assert msgspec.json.encode(first) == msgspec.json.encode(again)
    assert first != other


@pytest.mark.parametrize("routing", ROUTINGS)
def test_every_routing_serves_all_devices(routing: str) -> None:
    setting = msgspec.convert(
        {**msgspec.to_builtins(SETTING), "routing": routing}, ManySetting, strict=False
    )
    world = ManyWorld(setting, 1, waiting(setting, 0))
    made = world.play()
    assert ((world.devices.request > 0) | world.devices.is_open).all()
    assert made.requests_per_second > 0.0
    # By price the slower verifier is not worth its rounds while the faster one has few requests.
    expected = {0} if routing in ("least-price", "placement") else {0, 1}
    assert expected == set(world.devices.target.tolist())
    assert 0.0 < made.utilisation <= 1.01


def test_the_target_alone_gives_a_token_a_round() -> None:
    one = msgspec.structs.replace(SETTING, targets=(H100,), num_devices=4, seconds=8.0)
    made = outcome(one, waiting(one, 0))
    rounds_of = 0.040 + 4 * 0.00016
    assert rounds_of == pytest.approx(made.token_seconds, rel=0.15)
    assert made.acceptance is None
    assert sum(made.window_counts) == made.window_counts[0]


def test_a_static_window_is_tested_whole_until_the_output_ends() -> None:
    made = outcome(SETTING, waiting(SETTING, 4))
    counts = made.window_counts
    assert counts[4] > 0.85 * (sum(counts) - counts[0])
    assert sum(counts[5:]) == 0
    assert made.acceptance is not None
    assert 0.6 < made.acceptance < 0.95


def test_a_batch_that_is_padded_or_short_is_slower() -> None:
    crowd = msgspec.structs.replace(SETTING, targets=(H100,), num_devices=30)
    usual = outcome(crowd, waiting(crowd, 4)).tokens_per_second
    short = msgspec.structs.replace(crowd, max_batch=4)
    assert outcome(short, waiting(short, 4)).tokens_per_second < usual
    alike = msgspec.structs.replace(crowd, batching="length-aware", is_padded=True)
    assert outcome(alike, waiting(alike, 4)).tokens_per_second > 0.0


def test_perfect_windows_are_no_slower_than_any_static_one() -> None:
    setting = msgspec.structs.replace(SETTING, seconds=15.0)
    perfect = outcome(setting, WaitingArm(setting, PerfectWindows()))
    for window in (0, 4):
        static = outcome(setting, waiting(setting, window))
        assert perfect.device_tokens_per_second > 0.98 * static.device_tokens_per_second


def test_runs_are_counted_round_the_end() -> None:
    bits = np.array([[1, 1, 0, 1, 0, 1]], dtype=np.bool_)
    assert [[2, 1, 0, 1, 0, 3]] == run_lengths(bits).tolist()
    assert run_lengths(np.ones((1, 3), dtype=np.bool_)).min() > 1000


def test_texts_are_replayed_from_a_trace() -> None:
    trace = np.array([1, 1, 1, 0] * 25)
    drawn = draw_devices(SETTING, 1, trace)
    made = ManyWorld(SETTING, 1, waiting(SETTING, 4), drawn).play()
    assert drawn.acceptance.tolist() == [0.75] * 12
    assert 0.75 == pytest.approx(made.acceptance or 0.0, abs=0.08)


@pytest.mark.parametrize("drafts", [False, True], ids=["alone", "drafts"])
def test_one_verifier_fares_as_in_the_world_of_messages(drafts: bool) -> None:
    """Endless streams, no prompts: within 6 % in the geometric mean over boards."""
    count, acceptance, speeds = 12, (0.55, 0.9), (40.0, 90.0, 160.0)
    setting = ManySetting(
        targets=(H100,),
        num_devices=count,
        draft_tokens_per_second=speeds,
        acceptance=acceptance,
        round_trip_seconds=0.03,
        prompt_tokens=(1, 1),
        output_tokens=(1 << 20, 1 << 20),
        think_seconds=(0.01, 0.02),
        seconds=24.0,
        warm_up_seconds=8.0,
    )
    arm = ahead(setting) if drafts else waiting(setting, 0)
    ours = outcome(setting, arm).device_tokens_per_second
    group = BoardGroup(
        count=count,
        draft_tokens_per_second=speeds,
        batch_growth=0.0,
        acceptance=tuple(np.linspace(*acceptance, count).tolist()),
        round_trip_milliseconds=30.0,
    )
    scenario = Scenario(
        name="one",
        run=ScenarioSection(seconds=24.0),
        target=TargetSection(fixed_milliseconds=40.0, token_milliseconds=0.16),
        rounds=RoundsSection(policy="rate", slowdown_limit=10.0),
        boards={"board": group},
    )
    world = play(scenario, drafts=drafts)
    board = outcome_of(world, play(scenario, drafts=False))
    theirs = np.exp(np.mean([np.log(b.tokens_per_second) for b in board.boards]))
    assert float(theirs) == pytest.approx(ours, rel=0.06)


class Rendezvous:
    """Parts in threads of one process, each with arrays of its own."""

    def __init__(self, num_parts: int) -> None:
        self._barrier = threading.Barrier(num_parts, timeout=60)
        self._told: list[Any] = [None] * num_parts

    def exchange(self, number: int) -> Callable[[Any], list[Any]]:
        def meet(news: Any) -> list[Any]:
            # What is told travels as bytes, as between processes.
            self._told[number] = pickle.dumps(news)
            self._barrier.wait()
            heard = [pickle.loads(told) for told in self._told]
            self._barrier.wait()
            return heard

        return meet


@pytest.mark.parametrize("routing", ["jsq-2", "least-price"])
def test_the_outcome_does_not_hang_on_the_number_of_parts(routing: RoutingName) -> None:
    setting = msgspec.structs.replace(
        SETTING,
        targets=(H100, H100.slower("A100", 1.5), H100.slower("A6000", 2.0)),
        num_devices=24,
        seconds=2.5,
        output_tokens=(10, 30),
        routing=routing,
    )
    whole = outcome(setting, ahead(setting))
    assert whole.requests_per_second > 1.0
    for num_parts in (2, 3):
        meeting = Rendezvous(num_parts)

        def play(number: int, meeting: Rendezvous = meeting, count: int = num_parts) -> ManyOutcome:
            part, exchange = Part(number, count), meeting.exchange(number)
            return ManyWorld(setting, 1, ahead(setting), None, part, exchange).play()

        with ThreadPoolExecutor(num_parts) as threads:
            for made in threads.map(play, range(num_parts)):
                assert msgspec.json.encode(whole) == msgspec.json.encode(made)
