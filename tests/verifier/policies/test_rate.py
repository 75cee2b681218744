"""`rate` tests what is worth the delay that it causes, and no device loses more than the limit."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.speculation.goodput import FloatArray
from tests.support.ends.limits import make_budget_limits
from tests.support.ends.shares import Share, outlook_of
from verifier.policies import LiveDrafts, RatePolicy

UNLIMITED = make_budget_limits(max_round_tokens=1000, slowdown_limit=10.0)


def line(of_token: float, most_drafts: int = 64, fixed: float = 0.1) -> FloatArray:
    return fixed + of_token * np.arange(most_drafts + 1.0)


def live_of(
    *num_testable: int, price: float = 1.0, budget: float = 1e9, room: int = 1000
) -> LiveDrafts:
    return LiveDrafts(
        num_testable=num_testable,
        own_lengths=num_testable,
        prices=[price] * len(num_testable),
        is_whole=[False] * len(num_testable),
        budget=budget,
        num_room=room,
    )


def chosen(live: LiveDrafts, streams: list[Share], seconds: FloatArray) -> list[int]:
    return list(RatePolicy().choose(live, lambda: outlook_of(streams, seconds)))


def net_gain(streams: list[Share], lengths: tuple[int, ...], seconds: FloatArray) -> float:
    gained = sum(
        stream.weight / max(stream.goodput, 1.0) * stream.rate**depth
        for stream, length in zip(streams, lengths, strict=True)
        for depth in range(1, length + 1)
    )
    total_weight = sum(stream.weight for stream in streams)
    return float(gained - total_weight * (seconds[sum(lengths)] - seconds[0]) / seconds[0])


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.floats(0.05, 0.97), st.floats(0.5, 6.0), st.floats(0.5, 3.0), st.integers(0, 3)
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.floats(0.0, 0.05), min_size=12, max_size=12),
)
def test_no_other_choice_of_live_tokens_gains_more_on_any_curve(
    figures: list[tuple[float, float, float, int]], steps: list[float]
) -> None:
    streams = [Share(rate=r, goodput=x, weight=w) for r, x, w, _ in figures]
    num_live = [count for *_, count in figures]
    seconds = 0.1 + np.concatenate([[0.0], np.cumsum(steps)])
    if not any(num_live):
        return
    best = max(
        net_gain(streams, lengths, seconds)
        for lengths in product(*(range(count + 1) for count in num_live))
    )
    lengths = tuple(chosen(live_of(*num_live), streams, seconds))
    assert net_gain(streams, lengths, seconds) == pytest.approx(best, abs=1e-12)


def test_tokens_are_tested_up_to_the_next_stair() -> None:
    stairs = 0.1 + 0.075 * np.ceil(np.arange(33.0) / 8)
    streams = [Share(rate=0.9, goodput=1.5)] * 4
    lengths = chosen(live_of(8, 8, 8, 8), streams, stairs)
    assert sum(lengths) % 8 == 0
    assert 0 < sum(lengths) < 32


def test_dear_tokens_are_left_and_free_ones_all_tested() -> None:
    streams = [Share(rate=0.8)] * 2
    assert [0, 0] == chosen(live_of(3, 5), streams, line(0.09))
    assert [3, 5] == chosen(live_of(3, 5), streams, line(0.0))


def test_a_device_that_got_little_and_one_that_weighs_more_come_first() -> None:
    poor, rich, heavy = Share(goodput=1.0), Share(goodput=4.0), Share(goodput=4.0, weight=4.0)
    first, second, third = chosen(live_of(9, 9, 9), [poor, rich, heavy], line(0.005))
    assert first == third > second


# --- how sure boards are ----------------------------------------------------------------------


def chosen_by(
    chances: list[float], live: LiveDrafts, streams: list[Share], seconds: FloatArray
) -> list[int]:
    """NaN: the board does not say."""
    hazards = -np.log(np.array(chances))
    outlook = outlook_of(streams, seconds)._replace(live_hazards=hazards)
    return list(RatePolicy().choose(live, lambda: outlook))


def test_of_boards_that_are_equally_good_the_surer_tokens_are_tested() -> None:
    streams = [Share(rate=0.7)] * 2
    chances = [0.99, 0.98, 0.97, 0.2, 0.9, 0.9]
    assert [3, 0] == chosen_by(chances, live_of(3, 3), streams, line(0.02))


def test_what_lies_behind_a_doubtful_token_is_not_tested() -> None:
    assert [2] == chosen_by([0.99, 0.99, 0.1, 0.99], live_of(4), [Share()], line(0.02))


def test_tokens_of_which_a_board_says_nothing_survive_as_its_rate_says() -> None:
    streams, seconds = [Share(rate=0.8), Share(rate=0.6)], line(0.01)
    unsaid = [float("nan")] * 12
    assert chosen(live_of(6, 6), streams, seconds) == chosen_by(
        unsaid, live_of(6, 6), streams, seconds
    )
    as_said = [0.8] * 6 + [0.6] * 6
    assert chosen(live_of(6, 6), streams, seconds) == chosen_by(
        as_said, live_of(6, 6), streams, seconds
    )


@settings(max_examples=50)
@given(
    st.lists(st.lists(st.floats(0.05, 0.99), max_size=3), min_size=1, max_size=3),
    st.floats(0.0, 0.05),
)
def test_no_other_choice_gains_more_whatever_boards_say(
    chances: list[list[float]], of_token: float
) -> None:
    num_live = [len(of_stream) for of_stream in chances]
    if not any(num_live):
        return
    seconds = line(of_token)

    def gain(lengths: tuple[int, ...]) -> float:
        tested = [np.cumprod(c[:n]).sum() for c, n in zip(chances, lengths, strict=True)]
        lost = len(chances) * (seconds[sum(lengths)] - seconds[0]) / seconds[0]
        return float(sum(tested) / 2.0 - lost)

    flat = [chance for of_stream in chances for chance in of_stream]
    lengths = chosen_by(flat, live_of(*num_live), [Share(goodput=2.0)] * len(chances), seconds)
    best = max(map(gain, product(*(range(count + 1) for count in num_live))))
    assert gain(tuple(lengths)) == pytest.approx(best, abs=1e-9)


def test_a_board_whose_surer_tokens_are_worth_the_price_may_draft() -> None:
    dear = line(0.035)
    modest = Share(rate=0.5, goodput=1.0, draft_token_seconds=0.001)
    plan = RatePolicy().plan(outlook_of([modest] * 2, dear), UNLIMITED)
    assert [0, 0] == plan.lengths.tolist()
    telling = modest._replace(best_chance=0.95)
    plan = RatePolicy().plan(outlook_of([modest, telling], dear), UNLIMITED)
    assert plan.depths is not None
    assert [0, 1] == plan.lengths.tolist()
    assert 0 == plan.depths[0] < plan.depths[1]


def test_boards_are_told_to_stop_where_a_token_costs_more_than_it_is_worth() -> None:
    streams = [Share(), Share(waits=True), Share(goodput=4.0)]
    cheap, dear = (
        RatePolicy().plan(outlook_of(streams, line(of_token)), UNLIMITED).least_survivals
        for of_token in (0.001, 0.01)
    )
    assert cheap is not None
    assert dear is not None
    assert (cheap < dear).all()
    ahead, chunk, rich = dear.tolist()
    assert chunk == pytest.approx(4 * ahead)
    assert ahead < rich


def test_where_a_stream_sits_out_for_its_draft_each_token_costs_its_time_as_well() -> None:
    fast, slow = Share(draft_token_seconds=0.001), Share(draft_token_seconds=0.01)
    sibling = slow._replace(num_siblings=2)
    plan = RatePolicy().plan(outlook_of([fast, slow, sibling], line(0.002)), UNLIMITED)
    assert plan.least_survivals is not None
    assert plan.waited_survivals is not None
    price = 4 * plan.least_survivals  # boards may draft ahead of a quarter of it
    tokens_meanwhile = 2.0 * np.array([0.001, 0.01, 0.005]) / 0.1
    assert plan.waited_survivals == pytest.approx(price + tokens_meanwhile)


@pytest.mark.parametrize("seed", range(8))
def test_of_very_many_tokens_those_are_chosen_that_are_chosen_of_few(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that cannot pay are left out before all are sorted, on a curve with stairs too."""
    monkeypatch.setattr("verifier.policies.rate.MANY_TOKENS", 100)
    draw = np.random.default_rng(seed)
    num_streams = 400
    live = live_of(*draw.integers(0, 9, num_streams).tolist(), room=10_000)
    steps = draw.uniform(0.0, 2e-5, sum(live.num_testable)) * draw.choice([0.3, 1.0, 2.0])
    seconds = 0.02 + np.concatenate([[0.0], np.cumsum(steps + 1e-6)])
    figures = zip(*draw.uniform([[0.3], [0.5]], [[0.97], [6.0]], (2, num_streams)), strict=True)
    streams = [Share(rate=rate, goodput=goodput) for rate, goodput in figures]
    of_many = chosen(live, streams, seconds)
    monkeypatch.setattr("verifier.policies.rate.MANY_TOKENS", 10**6)
    assert chosen(live, streams, seconds) == of_many
    assert 0 < sum(of_many) < sum(live.num_testable)


def test_room_fixed_budgets_and_prices_are_kept() -> None:
    streams = [Share(rate=0.9)] * 2
    free = line(0.0)
    assert 5 == sum(chosen(live_of(4, 4, room=5), streams, free))
    assert 3 == sum(chosen(live_of(4, 4, budget=3.0), streams, free))
    assert 2 == sum(chosen(live_of(4, 4, budget=7.0, price=3.0), streams, free))


def test_a_chunk_is_tested_whole_however_dear_it_is() -> None:
    live = live_of(4, 4)._replace(is_whole=[True, False])
    assert [4, 0] == chosen(live, [Share(rate=0.3)] * 2, line(0.09))


def test_a_budget_cuts_chunks_by_what_their_tokens_cost() -> None:
    live = live_of(4, 4)._replace(is_whole=[True, True], prices=[8.0, 1.0], budget=18.0)
    assert [2, 0] == chosen(live, [Share()] * 2, line(0.0))
    assert [4, 2] == chosen(live._replace(budget=34.0), [Share()] * 2, line(0.0))
    assert [4, 1] == chosen(live._replace(budget=100.0, num_room=5), [Share()] * 2, line(0.0))


def test_boards_that_pay_get_windows_as_deep_as_drafts_survive() -> None:
    streams = [Share(rate=0.5), Share(rate=0.9), Share(rate=0.2, goodput=5.0)]
    plan = RatePolicy().plan(outlook_of(streams, line(0.005)), UNLIMITED)
    assert plan.depths is not None
    shallow, deep, none = plan.depths.tolist()
    assert (5, 37, 0) == (shallow, deep, none)
    assert 0 < plan.lengths[0] < plan.lengths[1]
    assert 0 == plan.lengths[2]


def test_a_board_slower_than_rounds_never_pays() -> None:
    slow = Share(rate=0.95, draft_token_seconds=0.2)
    plan = RatePolicy().plan(outlook_of([slow, Share()], line(0.0)), UNLIMITED)
    assert [0, 16] == plan.lengths.tolist()


def test_a_stream_that_waits_for_a_slow_board_goes_on_with_the_target_alone() -> None:
    """It got half of what the target alone gives (boards of 25 to 60 tokens/s, rounds of 40 ms)."""
    slow = Share(rate=0.6, draft_token_seconds=0.03, waits=True)
    good = slow._replace(rate=0.92, draft_token_seconds=0.01)
    never_waits = slow._replace(waits=False)
    seconds = line(0.0, fixed=0.04)
    plan = RatePolicy().plan(outlook_of([slow, good, never_waits], seconds), UNLIMITED)
    of_slow, of_good, of_never_waiting = plan.lengths.tolist()
    assert 0 == of_slow
    assert 2 <= of_good < 16  # however cheap a token is to others: its own drafting takes time
    assert 16 == of_never_waiting
    assert plan.depths is not None
    assert 0 == plan.depths[0]


def test_a_stream_alone_waits_for_a_board_that_is_too_slow_beside_others() -> None:
    """It misses no round meanwhile."""
    board = Share(rate=0.6, draft_token_seconds=0.01, waits=True)
    alone = RatePolicy().plan(outlook_of([board], line(0.0, fixed=0.04)), UNLIMITED)
    beside = RatePolicy().plan(outlook_of([board] * 2, line(0.0, fixed=0.04)), UNLIMITED)
    assert alone.lengths[0] > 0
    assert [0, 0] == beside.lengths.tolist()


def test_a_new_board_is_taken_for_a_good_one_where_a_token_is_dear() -> None:
    """With a first guess of 0.6 it would draft nothing, and nothing would ever be known of it."""
    known = Share(rate=0.6, goodput=1.0, draft_token_seconds=0.001)
    new = known._replace(num_observed=0)
    seconds = line(0.0035, fixed=0.01)  # a token costs two devices 0.7 of what they get
    plan = RatePolicy().plan(outlook_of([known, new], seconds), UNLIMITED)
    assert [0, 1] == plan.lengths.tolist()


@given(st.integers(0, 40), st.integers(0, 12))
def test_lengths_keep_a_fixed_budget(budget_tokens: int, num_streams: int) -> None:
    limits = make_budget_limits(max_round_tokens=1000, budget_tokens=budget_tokens)
    streams = [Share(rate=0.9)] * num_streams
    plan = RatePolicy().plan(outlook_of(streams, line(0.0)), limits)
    assert plan.lengths.sum() <= budget_tokens
    assert (plan.lengths >= 0).all()


def test_the_price_rises_while_the_slowest_device_loses_more_than_it_may_and_falls_again() -> None:
    policy, limits = RatePolicy(), make_budget_limits(slowdown_limit=0.05, max_round_tokens=1000)
    streams = [Share(rate=0.9, goodput=3.0), Share(rate=0.3, goodput=1.0)]
    live, seconds = live_of(8, 8), line(0.002)

    def tested_after(num_rounds: range, mean_seconds: float) -> int:
        for number in num_rounds:
            outlook = outlook_of(streams, seconds, num_rounds=number)
            times = type(outlook.times)(seconds, mean_seconds, number)
            policy.plan(outlook._replace(times=times), limits)
            num_tested = sum(policy.choose(live, lambda: outlook_of(streams, seconds)))
        return num_tested

    calm = tested_after(range(1, 2), 0.1)
    pressed = tested_after(range(2, 60), 0.12)
    assert calm > 2 * pressed
    assert calm == tested_after(range(60, 400), 0.1)


def test_a_price_begins_raised_where_many_boards_come_at_once_and_falls_in_a_second() -> None:
    """Until then it is not known what the slowest of them loses."""
    limits = make_budget_limits(slowdown_limit=0.05, max_round_tokens=1000)

    def raises(*fleets: int) -> list[float]:
        policy, raises = RatePolicy(), []
        for number, num_boards in enumerate(fleets, start=1):
            outlook = outlook_of([Share(goodput=1.0)] * num_boards, line(0.0001))
            times = type(outlook.times)(line(0.0001), 0.1, number)
            policy.plan(outlook._replace(times=times, total_weight=num_boards), limits)
            raises.append(policy._log_raise)
        return raises

    cold = raises(*[64] * 30)
    assert cold[0] > 1.5 > cold[8] > cold[29] == 0.0
    joined = raises(*[32] * 30, *[64] * 30)
    assert cold[0] > joined[30] > joined[29] == joined[59] == 0.0
    assert {0.0} == set(raises(*[2] * 20, 3, 8))  # a household's boards


def test_what_the_verifier_itself_does_between_rounds_is_no_drafts_fault() -> None:
    policy, limits = RatePolicy(), make_budget_limits(slowdown_limit=0.05, max_round_tokens=1000)
    outlook = outlook_of([Share(goodput=1.0)], line(0.002), num_rounds=1)
    for number in range(1, 60):
        times = type(outlook.times)(line(0.002), 0.115, number, between_seconds=0.015)
        policy.plan(outlook._replace(times=times), limits)
        policy.choose(live_of(8), lambda: outlook)
    assert policy._log_raise == 0.0


def test_a_price_does_not_rise_for_what_drafts_cannot_have_cost() -> None:
    """As after a long prompt, or beside other work: rounds ten times as long as the curve says."""
    policy, limits = RatePolicy(), make_budget_limits(slowdown_limit=0.05, max_round_tokens=1000)
    streams, seconds = [Share(rate=0.9, goodput=3.0)] * 4, line(0.001)
    outlook = outlook_of(streams, seconds)

    def tested_after(num_rounds: range, mean_seconds: float) -> int:
        for number in num_rounds:
            times = type(outlook.times)(seconds, mean_seconds, number)
            policy.plan(outlook._replace(times=times), limits)
            num_tested = sum(policy.choose(live_of(4, 4, 4, 4), lambda: outlook))
        return num_tested

    calm = tested_after(range(1, 2), 0.1)
    assert 16 == calm
    assert calm == tested_after(range(2, 100), 1.0)


def test_newcomers_of_the_same_round_move_the_price_no_further() -> None:
    once, twice = RatePolicy(), RatePolicy()
    for policy in (once, twice):  # both test eight tokens, which make rounds 80 % longer
        policy.choose(live_of(8), lambda: outlook_of([Share(rate=0.97)], line(0.01)))
    limits = make_budget_limits(slowdown_limit=0.0, max_round_tokens=1000)
    outlook = outlook_of([Share(goodput=1.0)], line(0.01), num_rounds=7)
    times = type(outlook.times)(line(0.01), 0.2, 7)
    once.plan(outlook._replace(times=times), limits)
    for _ in range(9):
        twice.plan(outlook._replace(times=times), limits)
    assert once._log_raise == twice._log_raise > 0.0
