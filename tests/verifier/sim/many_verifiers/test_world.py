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
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.codec import encode
from shared.protocol.messages import Open
from shared.protocol.token_ids import pack_token_ids
from shared.protocol.transport import BOARD_FRAME_HEADER_BYTES
from verifier.policies import RatePolicy
from verifier.rounds.settings import RoundsSection
from verifier.sim.many_verifiers.ahead import AheadArm, PolicyDecider
from verifier.sim.many_verifiers.arms import WaitingArm
from verifier.sim.many_verifiers.arrivals import Arrivals, dealt
from verifier.sim.many_verifiers.drawing import Recorded, draw_devices, run_lengths
from verifier.sim.many_verifiers.message_times import MessageTimes
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
    return AheadArm(PolicyDecider(setting, [RatePolicy() for _ in setting.targets], 10.0))


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
    drawn = draw_devices(SETTING, 1, Recorded(tokens=trace))
    made = ManyWorld(SETTING, 1, waiting(SETTING, 4), drawn).play()
    assert drawn.acceptance.tolist() == [0.75] * 12
    assert 0.75 == pytest.approx(made.acceptance or 0.0, abs=0.08)


@pytest.mark.parametrize(
    ("drafts", "loss", "kilobits"),
    [(False, 0.0, 0.0), (True, 0.0, 0.0), (True, 0.03, 0.0), (True, 0.0, 8.0)],
    ids=["alone", "drafts", "links that lose", "narrow links"],
)
def test_one_verifier_fares_as_in_the_world_of_messages(
    drafts: bool, loss: float, kilobits: float
) -> None:
    """Endless streams, no prompts: within 6 % in the geometric mean over boards."""
    count, acceptance, speeds = 12, (0.55, 0.9), (40.0, 90.0, 160.0)
    setting = ManySetting(
        targets=(H100,),
        num_devices=count,
        draft_tokens_per_second=speeds,
        acceptance=acceptance,
        round_trip_seconds=0.03,
        loss=loss,
        bytes_per_second=125.0 * kilobits,
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
        loss=loss,
        kilobits_per_second=kilobits,
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


@pytest.mark.parametrize("window", [0, 4])
def test_loss_and_narrow_links_cost_streams_that_wait_what_they_must(window: int) -> None:
    """A draft that is lost comes 0.2 s later; the target alone is delayed at its first token."""
    short = msgspec.structs.replace(SETTING, output_tokens=(20, 40), seconds=12.0)
    usual = outcome(short, waiting(short, window))
    lossy = msgspec.structs.replace(short, loss=0.1, resend_seconds=0.2)
    narrow = msgspec.structs.replace(short, bytes_per_second=2000.0)
    for setting in (lossy, narrow):
        made = outcome(setting, waiting(setting, window))
        assert made.first_token_seconds > usual.first_token_seconds
        assert (made.token_seconds > 1.05 * usual.token_seconds) == (window > 0)


def test_messages_take_their_bytes_and_are_sent_again_as_often_as_links_lose_them() -> None:
    which = np.arange(200_000)
    none = np.zeros(len(which), dtype=np.int64)
    setting = msgspec.structs.replace(
        SETTING, loss=0.25, resend_seconds=1.0, jitter=0.0, bytes_per_second=1000.0
    )
    times = MessageTimes(setting, 1)
    request = times.trips("request", which, none, none, 99)
    # 1 / (1 - loss) sendings in the mean.
    assert 1.0 / 3.0 == pytest.approx(request.resent_seconds.mean(), rel=0.05)
    on_the_way = request.seconds - request.resent_seconds - 0.5 * setting.round_trip_seconds
    num_bytes = 1000.0 * on_the_way[0]
    prompt = pack_token_ids([10_000] * 100)
    encoded = encode(Open(1, 1 << 62, prompt=prompt))
    assert len(encoded) + BOARD_FRAME_HEADER_BYTES == pytest.approx(num_bytes, abs=3.0)
    assert on_the_way == pytest.approx(on_the_way[0])


@given(
    st.lists(st.tuples(st.floats(0.0, 100.0), st.integers(1, 99), st.integers(1, 99)), min_size=1),
    st.integers(1, 9),
    st.integers(0, 99),
)
def test_each_request_goes_to_one_device_in_the_order_of_time(
    requests: list[tuple[float, int, int]], num_devices: int, seed: int
) -> None:
    times, prompts, outputs = zip(*sorted(requests), strict=True)
    arrivals = Arrivals(np.array(times), np.array(prompts), np.array(outputs))
    made = dealt(arrivals, num_devices, np.random.default_rng(seed))
    assert np.isinf(made.asked_at[:, -1]).all()
    for row in made.asked_at:
        assert sorted(row.tolist()) == row.tolist()
    is_there = np.isfinite(made.asked_at)
    columns = [table[is_there].tolist() for table in made]
    assert sorted(requests) == sorted(zip(*columns, strict=True))


def test_requests_arrive_by_themselves_and_wait_at_a_device_that_is_busy() -> None:
    """Half as many as can be served are all answered; with one device they queue there."""
    setting = msgspec.structs.replace(
        SETTING, num_devices=200, requests_per_second=3.0, output_tokens=(20, 40), seconds=40.0
    )
    made = outcome(setting, ahead(setting))
    assert 3.0 == pytest.approx(made.requests_per_second, rel=0.3)
    one = msgspec.structs.replace(setting, num_devices=1)
    queued = outcome(one, ahead(one))
    assert queued.requests_per_second < 0.7 * made.requests_per_second
    assert queued.first_token_seconds > 10 * made.first_token_seconds


def test_recorded_arrivals_are_asked_when_they_were() -> None:
    arrivals = Arrivals(np.array([0.5, 1.5, 3.0]), np.array([8, 8, 600]), np.array([5, 5, 5]))
    setting = msgspec.structs.replace(SETTING, seconds=8.0, warm_up_seconds=0.0, jitter=0.0)
    drawn = draw_devices(setting, 1, Recorded(arrivals=arrivals))
    world = ManyWorld(setting, 1, waiting(setting, 0), drawn)
    made = world.play()
    assert 3 == round(made.requests_per_second * 8.0)
    assert 15 == round(made.tokens_per_second * 8.0)
    # The long prompt is read in two rounds.
    assert made.first_token_p99_seconds > 1.5 * made.first_token_p50_seconds
    assert not world.devices.is_open.any()


def test_the_history_adds_up_to_what_the_whole_run_came_to() -> None:
    setting = msgspec.structs.replace(SETTING, warm_up_seconds=0.0, bin_seconds=0.7)
    world = ManyWorld(setting, 1, ahead(setting))
    made = world.play()
    history = made.history
    assert 9 == len(history.seconds) == len(history.window_counts) == len(history.utilisation)
    ended_within = np.sum(history.window_counts, axis=0)
    late = made.num_stream_rounds - int(ended_within.sum())
    assert 0 <= late <= setting.num_devices  # of rounds that end behind the run's end
    seconds = [0.7] * 8 + [0.4]
    tokens = float(np.dot(history.tokens_per_second, seconds))
    assert tokens == pytest.approx(made.tokens_per_second * 6.0, rel=0.05)
    busy = float(np.dot(history.utilisation, seconds))
    assert busy == pytest.approx(made.utilisation * 6.0, rel=0.03)
    assert max(history.utilisation) <= 1.0 + 1e-9
    assert {"H100", "A100"} == set(made.utilisation_of_kinds)


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


@pytest.mark.parametrize(
    ("routing", "further"),
    [
        ("jsq-2", {}),
        ("least-price", {}),
        ("jsq", {"requests_per_second": 9.0, "loss": 0.1, "bytes_per_second": 2000.0}),
    ],
)
def test_the_outcome_does_not_hang_on_the_number_of_parts(
    routing: RoutingName, further: dict[str, Any]
) -> None:
    setting = msgspec.structs.replace(
        SETTING,
        targets=(H100, H100.slower("A100", 1.5), H100.slower("A6000", 2.0)),
        num_devices=24,
        seconds=2.5,
        output_tokens=(10, 30),
        routing=routing,
        **further,
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
