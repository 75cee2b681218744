"""Measurement overrules the model, costs little, and is repeated when something changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speculation.paired_test import Finding
from verifier.scheduling.draft_trial import Arm
from verifier.scheduling.fleet_record import (
    FIRST_OTHER_SHARE,
    FIRST_ROUNDS,
    FIRST_SECONDS,
    LEAST_PAUSE_SECONDS,
    FleetRecord,
    Standing,
)
from verifier.scheduling.measured_payoff import MEMBER_SECONDS, MOST_FLEETS, MeasuredPayoff
from verifier.scheduling.round_facts import RoundFacts

NONE: frozenset[str] = frozenset()
THREE = frozenset({"a", "b", "c"})


class World:
    """Streams of which the verifier learns round by round; all times are simulated."""

    def __init__(self, gain: float, *, seed: int = 1, deviation: float = 0.0) -> None:
        """`gain`: tokens per second with drafts over those without."""
        self.payoff = MeasuredPayoff()
        self.gain = gain
        self.seconds = 0.0
        self.tokens = 0.0
        self.arms: list[Arm] = []
        self._random = Random(seed)
        self._deviation = deviation

    def round(self, devices: frozenset[str] = THREE, *, may_draft: bool = True) -> None:
        arm = self.payoff.arm
        num_streams = len(devices)
        num_tokens, seconds = num_streams, 0.05
        if arm is Arm.DRAFTS and may_draft:
            num_tokens, seconds = 2 * num_streams, 0.1 / self.gain
        seconds *= max(1.0 + self._deviation * self._random.gauss(0.0, 1.0), 0.1)
        drafting = devices if arm is Arm.DRAFTS else NONE
        facts = (seconds, num_tokens, num_streams, devices, drafting, False, may_draft)
        self.payoff.observe(RoundFacts(*facts, has_windows=arm is Arm.DRAFTS))
        self.seconds += seconds
        self.tokens += num_tokens
        self.arms.append(arm)

    def run(self, seconds: float, devices: frozenset[str] = THREE) -> float:
        """Tokens per second in a while, over those of the better arm."""
        until, tokens, began = self.seconds + seconds, self.tokens, self.seconds
        while self.seconds < until:
            self.round(devices)
        best = len(devices) / 0.05 * max(self.gain, 1.0)
        return (self.tokens - tokens) / (self.seconds - began) / best


def learnt(gain: float, seconds: float = 30.0) -> World:
    world = World(gain)
    world.run(seconds)
    return world


def test_at_first_the_model_is_believed() -> None:
    world = World(0.5)
    for _ in range(FIRST_ROUNDS - 1):
        world.round()
    assert {Arm.DRAFTS} == set(world.arms)
    assert Standing.BELIEVED is world.payoff.standing
    assert None is world.payoff.rest_sentence
    assert None is world.payoff.drafts_over_none


def test_drafts_that_slow_all_down_are_off_within_seconds_and_it_is_said_why() -> None:
    world = learnt(0.7, 13.0)
    assert (Standing.SLOWER, Arm.ALONE) == (world.payoff.standing, world.payoff.arm)
    assert "drafts are off: measured 30% slower with them" == world.payoff.rest_sentence
    assert pytest.approx(0.7) == world.payoff.drafts_over_none
    assert pytest.approx(20.0) == world.payoff.alone_tokens_per_second


def test_drafts_that_pay_stay_on() -> None:
    world = learnt(1.8, 10.0)
    assert (Standing.FASTER, Arm.DRAFTS) == (world.payoff.standing, world.payoff.arm)
    assert None is world.payoff.rest_sentence


def test_one_pair_however_bad_lets_no_board_rest() -> None:
    losing, gaining = FleetRecord(Arm.DRAFTS), FleetRecord(Arm.DRAFTS)
    losing.test.add(math.log(0.2))
    gaining.test.add(math.log(5.0))
    assert (Finding.NOTHING, Finding.FASTER) == (losing.finding, gaining.finding)
    losing.test.add(math.log(0.2))
    assert Finding.SLOWER is losing.finding


def test_where_drafts_gain_very_much_a_dozen_rounds_alone_find_that_out() -> None:
    world = World(2.6, deviation=0.1)
    while world.payoff.standing is Standing.BELIEVED:
        world.round()
    assert Standing.FASTER is world.payoff.standing
    assert world.arms.count(Arm.ALONE) <= 16


def test_a_first_answer_is_drafted_for() -> None:
    world = World(1.4, deviation=0.1)
    world.run(FIRST_SECONDS)
    assert {Arm.DRAFTS} == set(world.arms)


@pytest.mark.parametrize("seed", range(8))
def test_where_drafts_seem_to_pay_they_pause_for_a_tenth_of_the_time(seed: int) -> None:
    """A gain that takes many pairs to be proven."""
    world = World(1.2, seed=seed, deviation=0.3)
    world.run(60.0)
    share = sum(arm is Arm.ALONE for arm in world.arms) / len(world.arms)
    # Rounds without drafts are shorter, and the first pairs come before their pause.
    assert share < 2.0 * FIRST_OTHER_SHARE


def test_while_it_is_measured_drafts_pause_and_that_is_said() -> None:
    world = World(1.8)
    while world.payoff.arm is Arm.DRAFTS:
        world.round()
    assert world.payoff.is_measuring
    assert "drafts pause for a moment: it is measured what they are worth" == (
        world.payoff.rest_sentence
    )


@pytest.mark.parametrize("gain", [0.3, 0.7, 0.9, 1.1, 1.8, 3.0])
def test_in_the_long_run_measuring_costs_less_than_a_hundredth(gain: float) -> None:
    world = World(gain)
    assert world.run(300.0) > 0.95, "the first measurement is part of it"
    assert world.run(1000.0) > 0.99


@pytest.mark.parametrize("gain", [0.7, 1.8])
def test_what_is_confirmed_is_measured_ever_more_rarely(gain: float) -> None:
    world = World(gain)
    shares = []
    for _ in range(4):
        world.arms.clear()
        world.run(600.0)
        usual = Arm.ALONE if gain < 1.0 else Arm.DRAFTS
        shares.append(sum(arm is not usual for arm in world.arms) / len(world.arms))
    assert shares[0] > shares[-1]
    assert shares[-1] < 0.01


@pytest.mark.parametrize(("before", "after"), [(0.6, 1.6), (1.6, 0.6)])
def test_another_truth_is_found_out(before: float, after: float) -> None:
    world = learnt(before, 60.0)
    world.gain = after
    world.run(600.0)
    assert (after > 1.0) == (world.payoff.standing is Standing.FASTER)


def test_a_pace_that_changes_much_is_noticed_long_before_the_pause_is_over() -> None:
    world = learnt(1.6, 1000.0)
    world.gain = 0.6
    began = world.seconds
    while world.payoff.standing is Standing.FASTER and world.seconds < began + 100.0:
        world.round()
    assert world.seconds - began < 30.0


def test_another_fleet_is_measured_for_itself_and_the_old_one_remembered() -> None:
    world = learnt(0.6)
    world.gain = 1.8
    world.run(30.0, frozenset({"a"}))
    assert Standing.FASTER is world.payoff.standing
    world.gain = 0.6
    world.round()
    assert (Standing.SLOWER, Arm.ALONE) == (world.payoff.standing, world.payoff.arm)


def test_a_fleet_that_was_never_seen_begins_as_the_latest_of_its_size() -> None:
    world = learnt(0.6)
    world.run(MEMBER_SECONDS + 0.2, frozenset({"d", "e", "f"}))
    assert (Standing.BELIEVED, Arm.ALONE) == (world.payoff.standing, world.payoff.arm)
    sentence = "drafts are off: measured slower with them for as many other devices"
    assert sentence == world.payoff.rest_sentence


def test_a_first_measurement_goes_on_where_it_was_cut_by_others() -> None:
    world = World(0.7)
    for _ in range(6):
        world.run(2.0)
        world.run(MEMBER_SECONDS + 1.0, frozenset({"a"}))
    world.run(0.1)
    assert (Standing.SLOWER, Arm.ALONE) == (world.payoff.standing, world.payoff.arm)


def test_some_rounds_without_a_board_between_two_questions_change_nothing() -> None:
    world = World(0.7)
    for _ in range(60):
        for _ in range(6):
            world.round()
        for _ in range(2):
            world.round(frozenset({"a", "b"}))
    assert (Standing.SLOWER, Arm.ALONE) == (world.payoff.standing, world.payoff.arm)


def test_boards_whose_prompts_are_read_belong_to_those_who_chat() -> None:
    world = learnt(0.7)
    facts = RoundFacts(0.05, 1, 1, frozenset({"a"}), NONE, True, True, False, frozenset({"b", "c"}))
    for _ in range(int(2.0 * MEMBER_SECONDS / 0.05)):
        world.payoff.observe(facts)
    assert (Standing.SLOWER, Arm.ALONE) == (world.payoff.standing, world.payoff.arm)


def test_a_large_fleet_whose_size_changes_a_little_is_the_same() -> None:
    world = World(0.7)
    names = [f"board-{i}" for i in range(40)]
    for i in range(400):
        world.round(frozenset(names[: 36 + i % 4]))
    assert (Standing.SLOWER, Arm.ALONE) == (world.payoff.standing, world.payoff.arm)


def test_fleets_beyond_number_are_forgotten() -> None:
    world = World(0.7)
    for i in range(MOST_FLEETS + 20):
        world.run(MEMBER_SECONDS + 0.2, frozenset({f"board-{i}"}))
    assert MOST_FLEETS == world.payoff.num_fleets


def test_rounds_in_which_requests_say_what_is_drafted_teach_nothing() -> None:
    world = World(0.5)
    for _ in range(500):
        world.round(may_draft=False)
    assert {Arm.DRAFTS} == set(world.arms)
    assert Standing.BELIEVED is world.payoff.standing


def test_where_the_model_lets_no_board_draft_there_is_nothing_to_measure() -> None:
    payoff = MeasuredPayoff()
    for _ in range(500):
        payoff.observe(RoundFacts(0.05, 3, 3, THREE, NONE, False, True, False))
        assert not payoff.is_measuring


def test_after_a_measurement_there_is_a_pause() -> None:
    world = World(0.7)
    while world.payoff.standing is Standing.BELIEVED:
        world.round()
    began = world.seconds
    while not world.payoff.is_measuring:
        world.round()
    assert world.seconds - began >= LEAST_PAUSE_SECONDS - 0.1


@pytest.mark.parametrize("gain", [0.95, 1.05])
def test_a_difference_of_a_twentieth_is_not_mistaken(gain: float) -> None:
    """Of twenty runs of five minutes, with rounds that vary by a third, none ends the wrong way."""
    wrong = Standing.FASTER if gain < 1.0 else Standing.SLOWER
    for seed in range(20):
        world = World(gain, seed=seed, deviation=0.33)
        world.run(300.0)
        assert wrong is not world.payoff.standing


@given(
    st.lists(
        st.tuples(
            st.floats(0.001, 2.0),
            st.integers(0, 20),
            st.sets(st.sampled_from("abcdefgh")),
            st.booleans(),
            st.booleans(),
            st.booleans(),
        ),
        max_size=300,
    )
)
def test_whatever_rounds_bring_it_has_an_answer(rounds: list[tuple[object, ...]]) -> None:
    payoff = MeasuredPayoff()
    make: Callable[..., RoundFacts] = RoundFacts
    for seconds, num_tokens, names, drafts, reads_prompts, may_draft in rounds:
        devices = frozenset(names)  # type: ignore[call-overload]
        facts = (seconds, num_tokens, len(devices), devices, devices if drafts else NONE)
        payoff.observe(make(*facts, reads_prompts, may_draft and bool(devices), drafts))
        assert (payoff.rest_sentence is None) == (payoff.arm is Arm.DRAFTS)
        assert payoff.lost_seconds >= 0.0
