"""A trial lets boards draft and rest in turn, and compares what is next to each other."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from verifier.scheduling.draft_trial import (
    BLOCK_ROUNDS,
    BLOCK_SECONDS,
    BRIEF_PAIRS,
    FEW_ALONE_ROUNDS,
    LEAST_COMMON_ROUNDS,
    LONG_BLOCK_ROUNDS,
    MOST_BLOCK_ROUNDS,
    MOST_LEFT_OUT,
    MOST_RESTARTS,
    MOST_SETTLING_SECONDS,
    SETTLING_ROUNDS,
    Arm,
    DraftTrial,
)
from verifier.scheduling.round_facts import RoundFacts

BOTH = frozenset({"a", "b"})
NONE: frozenset[str] = frozenset()
ROUND_SECONDS = 1 / 16  # so that sums are exact
COSTLY_ROUNDS = max(FEW_ALONE_ROUNDS, int(BLOCK_SECONDS / ROUND_SECONDS))  # alone, of a block


def facts(
    num_tokens: int = 2,
    seconds: float = ROUND_SECONDS,
    drafting: frozenset[str] = NONE,
    *,
    reads_prompts: bool = False,
) -> RoundFacts:
    return RoundFacts(seconds, num_tokens, 2, BOTH, drafting, reads_prompts, True, True)


def as_told(arm: Arm) -> RoundFacts:
    """Boards do at once what they are told: with drafts half as many tokens again."""
    return facts(3, drafting=BOTH) if arm is Arm.DRAFTS else facts()


def run(
    trial: DraftTrial, num_rounds: int, rounds: Callable[[Arm], RoundFacts] = as_told
) -> tuple[list[Arm], list[float]]:
    """The arm of every round, and the ratios that came."""
    arms, ratios = [], []
    for _ in range(num_rounds):
        arms.append(trial.arm)
        log_ratio = trial.observe(rounds(trial.arm), BOTH)
        if log_ratio is not None:
            ratios.append(log_ratio)
    return arms, ratios


@pytest.mark.parametrize(
    ("settled", "other_rounds"), [(Arm.DRAFTS, COSTLY_ROUNDS), (Arm.ALONE, BLOCK_ROUNDS)]
)
def test_what_holds_comes_first_and_each_two_blocks_hold_one_change(
    settled: Arm, other_rounds: int
) -> None:
    others = 2 * other_rounds + SETTLING_ROUNDS
    arms, _ = run(DraftTrial(settled), 2 * BLOCK_ROUNDS + others + SETTLING_ROUNDS)
    expected = [settled] * BLOCK_ROUNDS + [settled.other] * others
    assert [*expected, *[settled] * (BLOCK_ROUNDS + SETTLING_ROUNDS)] == arms


def test_what_the_first_pairs_did_not_prove_takes_whole_blocks() -> None:
    arms, _ = run(DraftTrial(Arm.DRAFTS, BRIEF_PAIRS), 4 * BLOCK_ROUNDS)
    assert 2 * BLOCK_ROUNDS + SETTLING_ROUNDS == arms.count(Arm.ALONE)


def test_rounds_alone_of_changing_streams_make_a_block_as_long_as_others() -> None:
    trial, arms = DraftTrial(Arm.DRAFTS), []
    for number in range(4 * BLOCK_ROUNDS):
        arms.append(trial.arm)
        trial.observe(as_told(trial.arm), number % 4)
    assert SETTLING_ROUNDS + 2 * BLOCK_ROUNDS - 1 <= arms.count(Arm.ALONE)


@pytest.mark.parametrize("settled", list(Arm))
def test_the_ratio_is_of_drafts_over_none_whatever_holds(settled: Arm) -> None:
    trial = DraftTrial(settled)
    _, ratios = run(trial, 2 * (2 * BLOCK_ROUNDS + SETTLING_ROUNDS))
    assert [pytest.approx(math.log(1.5))] * 2 == ratios
    assert 2 == trial.num_pairs


def test_a_block_of_short_rounds_is_long_enough_all_the_same() -> None:
    trial = DraftTrial(Arm.DRAFTS)
    arms, _ = run(trial, 200, lambda arm: facts(seconds=0.005))
    assert int(BLOCK_SECONDS / 0.005) == arms.index(Arm.ALONE)


def test_rounds_in_which_old_drafts_are_used_up_do_not_count() -> None:
    trial = DraftTrial(Arm.DRAFTS)
    run(trial, BLOCK_ROUNDS)
    run(trial, 10, lambda arm: facts(6, 0.2, BOTH))  # told to rest, but drafts were on the way
    _, ratios = run(trial, BLOCK_ROUNDS + SETTLING_ROUNDS)
    assert [pytest.approx(math.log(1.5))] == ratios


def test_drafts_count_when_boards_draft_again() -> None:
    trial = DraftTrial(Arm.ALONE)
    run(trial, BLOCK_ROUNDS)
    run(trial, 8, lambda arm: facts(1, 0.3))  # boards catch up with the text
    _, ratios = run(trial, BLOCK_ROUNDS + 1)
    assert [pytest.approx(math.log(1.5))] == ratios


def test_boards_that_never_draft_are_not_awaited_for_long() -> None:
    trial = DraftTrial(Arm.ALONE)
    num_rounds = 2 * BLOCK_ROUNDS + int(MOST_SETTLING_SECONDS / ROUND_SECONDS) + 1
    _, ratios = run(trial, num_rounds, lambda arm: facts())
    assert [0.0] == ratios


def test_devices_that_never_drafted_are_not_awaited_at_all() -> None:
    trial = DraftTrial(Arm.DRAFTS)

    def one_of_two(arm: Arm) -> RoundFacts:
        return facts(drafting=frozenset({"a"}) if arm is Arm.DRAFTS else NONE)

    _, ratios = run(trial, 2 * (BLOCK_ROUNDS + COSTLY_ROUNDS + SETTLING_ROUNDS), one_of_two)
    assert [0.0, 0.0] == ratios


def test_rounds_with_prompts_are_left_out() -> None:
    trial = DraftTrial(Arm.DRAFTS)
    run(trial, BLOCK_ROUNDS - 1)
    assert None is trial.observe(facts(50, reads_prompts=True), BOTH)
    assert Arm.DRAFTS is trial.arm
    _, ratios = run(trial, 1 + BLOCK_ROUNDS + SETTLING_ROUNDS)
    assert [pytest.approx(math.log(1.5))] == ratios


def test_two_blocks_too_far_from_each_other_are_begun_anew() -> None:
    trial = DraftTrial(Arm.DRAFTS)
    run(trial, BLOCK_ROUNDS + SETTLING_ROUNDS + 1)
    assert Arm.ALONE is trial.arm
    for _ in range(MOST_LEFT_OUT + 1):
        trial.observe(facts(reads_prompts=True), BOTH)
    assert Arm.DRAFTS is trial.arm
    assert not trial.is_futile


def test_a_trial_among_endless_prompts_is_futile() -> None:
    trial = DraftTrial(Arm.DRAFTS)
    for _ in range((MOST_RESTARTS + 1) * (MOST_LEFT_OUT + 1)):
        assert not trial.is_futile
        trial.observe(facts(reads_prompts=True), BOTH)
    assert trial.is_futile


def test_what_it_may_cost_is_the_time_in_which_the_usual_did_not_hold() -> None:
    trial = DraftTrial(Arm.DRAFTS)
    run(trial, BLOCK_ROUNDS)
    assert 0.0 == trial.other_seconds
    run(trial, 2 * COSTLY_ROUNDS + SETTLING_ROUNDS)
    others = ROUND_SECONDS * (2 * COSTLY_ROUNDS + SETTLING_ROUNDS)
    assert pytest.approx(others) == trial.other_seconds
    run(trial, BLOCK_ROUNDS + SETTLING_ROUNDS)
    assert pytest.approx(others + ROUND_SECONDS * SETTLING_ROUNDS) == trial.other_seconds


def test_long_rounds_make_blocks_of_fewer() -> None:
    trial = DraftTrial(Arm.DRAFTS)
    arms, _ = run(trial, BLOCK_ROUNDS, lambda arm: facts(seconds=0.5))
    assert LONG_BLOCK_ROUNDS == arms.index(Arm.ALONE)


def test_what_the_target_alone_gives_a_stream_is_told() -> None:
    trial = DraftTrial(Arm.DRAFTS)
    run(trial, BLOCK_ROUNDS)
    assert None is trial.alone_rate
    run(trial, BLOCK_ROUNDS + SETTLING_ROUNDS)
    assert pytest.approx(1 / ROUND_SECONDS) == trial.alone_rate


def test_only_rounds_of_the_same_streams_are_compared() -> None:
    """One stream gets twice as much as each of two; drafts bring half as much again."""
    trial, ratios = DraftTrial(Arm.DRAFTS), []
    for i in range(4 * BLOCK_ROUNDS):
        arm = trial.arm
        is_one = i % 3 == 0 if arm is Arm.DRAFTS else i % 3 > 0
        gain = 1.5 if arm is Arm.DRAFTS else 1.0
        drafting = BOTH if arm is Arm.DRAFTS else NONE
        writers = frozenset({"a"}) if is_one else BOTH
        num_tokens = int(40 * gain)
        one = RoundFacts(
            ROUND_SECONDS, num_tokens, len(writers), writers, drafting, False, True, True
        )
        log_ratio = trial.observe(one, writers)
        ratios += [] if log_ratio is None else [log_ratio]
    assert pytest.approx(math.log(1.5)) == ratios[0]


def test_a_block_goes_on_until_it_has_rounds_of_the_same_streams_as_the_one_before() -> None:
    trial = DraftTrial(Arm.DRAFTS)
    run(trial, BLOCK_ROUNDS)
    for _ in range(BLOCK_ROUNDS + SETTLING_ROUNDS):
        assert None is trial.observe(facts(), frozenset({"c"}))
    _, ratios = run(trial, LEAST_COMMON_ROUNDS)
    assert [pytest.approx(math.log(1.5))] == ratios


def test_blocks_without_any_are_begun_anew() -> None:
    trial = DraftTrial(Arm.DRAFTS)
    run(trial, BLOCK_ROUNDS)
    for _ in range(MOST_BLOCK_ROUNDS + SETTLING_ROUNDS):
        assert Arm.ALONE is trial.arm
        assert None is trial.observe(facts(), frozenset({"c"}))
    assert Arm.DRAFTS is trial.arm
    assert 0 == trial.num_pairs


def test_a_block_without_a_token_says_nothing() -> None:
    trial = DraftTrial(Arm.DRAFTS)
    _, ratios = run(trial, 2 * MOST_BLOCK_ROUNDS, lambda arm: facts(num_tokens=0))
    assert [] == ratios
