"""Where a stream is served best: the price rises with the crowd and falls with what is cached."""

from __future__ import annotations

from itertools import product

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from verifier.cost_curve.curve import CostCurve
from verifier.placement.price import LEAST_GAIN, Offer, cheapest, gain, moves_to, price, spread

# Of a GPU with an 8B model: 6 ms for one token, 7 ms for 64, 14 ms for 512.
FAST = CostCurve.from_samples([(1, 1, 0.006), (64, 1, 0.007), (512, 1, 0.014)])
SLOW = CostCurve.from_samples([(1, 1, 0.025), (64, 1, 0.03), (512, 1, 0.06)])

offers = st.builds(
    Offer,
    worker=st.just(0),
    curve=st.sampled_from([FAST, SLOW]),
    num_streams=st.integers(0, 200),
    context_tokens=st.integers(0, 10**6),
    num_cached_tokens=st.just(0),
    num_free_tokens=st.integers(0, 10**6),
)


def offer(
    worker: int = 0, curve: CostCurve = FAST, num_streams: int = 0, num_free: int = 10**6
) -> Offer:
    return Offer(worker, curve, num_streams, 100 * num_streams, 0, num_free)


@given(st.lists(offers, min_size=1, max_size=6), st.integers(1, 5000))
def test_the_cheapest_with_room_is_taken(given_offers: list[Offer], num_tokens: int) -> None:
    numbered = [msgspec.structs.replace(o, worker=i) for i, o in enumerate(given_offers)]
    taken = cheapest(numbered, num_tokens)
    assert taken is not None
    roomy = [o for o in numbered if o.num_free_tokens >= num_tokens] or numbered
    assert taken in roomy
    assert price(taken, num_tokens) == min(price(o, num_tokens) for o in roomy)


@given(offers, st.integers(1, 5000), st.integers(1, 5000))
def test_cached_tokens_are_never_dearer(one: Offer, num_tokens: int, num_cached: int) -> None:
    assume(num_cached <= num_tokens)
    cached = msgspec.structs.replace(one, num_cached_tokens=num_cached)
    assert price(cached, num_tokens) <= price(one, num_tokens)


def test_there_is_no_offer() -> None:
    assert cheapest([], 10) is None


def test_equal_workers_fill_evenly_and_a_cached_prompt_draws() -> None:
    workers = [offer(i) for i in range(3)]
    assert [0, 1, 2, 0, 1, 2] == spread(workers, [100] * 6)
    with_prompt = msgspec.structs.replace(workers[2], num_cached_tokens=2000)
    taken = cheapest([*workers[:2], with_prompt], 2000)
    assert taken is not None
    assert 2 == taken.worker


def test_a_fast_worker_takes_far_more_than_a_slow_one() -> None:
    chosen = spread([offer(0, FAST), offer(1, SLOW)], [100] * 40)
    assert chosen.count(0) > 3 * chosen.count(1)


def test_one_that_joins_takes_about_half_and_no_move_is_for_nothing() -> None:
    crowd = offer(0, SLOW, num_streams=40)
    streams = [(number, 100) for number in range(40)]
    chosen = moves_to(offer(1, SLOW), [(crowd, streams)])
    assert 5 < len(chosen) <= 20
    assert [] == moves_to(offer(1, SLOW), [(offer(0, FAST, num_streams=2), [(1, 100), (2, 100)])])


@given(st.integers(0, 60), st.integers(0, 60), st.sampled_from([FAST, SLOW]))
def test_equal_workers_do_not_send_a_stream_to_and_fro(
    here: int, there: int, curve: CostCurve
) -> None:
    assume(here >= 1)
    source, target = offer(0, curve, here), offer(1, curve, there)
    if gain(source, target, 100) >= LEAST_GAIN:
        moved = offer(1, curve, there + 1)
        back = offer(0, curve, here - 1)
        assert gain(moved, back, 100) < LEAST_GAIN


def test_moves_come_of_the_worker_where_they_gain_most() -> None:
    full, half = offer(0, SLOW, num_streams=60), offer(1, SLOW, num_streams=20)
    streams = {0: [(n, 100) for n in range(60)], 1: [(100 + n, 100) for n in range(20)]}
    chosen = moves_to(offer(2, SLOW), [(full, streams[0]), (half, streams[1])])
    assert chosen
    assert sum(n < 100 for n in chosen) > sum(n >= 100 for n in chosen)


def test_every_choice_is_the_same_again() -> None:
    for count, curve in product((1, 5), (FAST, SLOW)):
        workers = [offer(i, curve) for i in range(count)]
        assert spread(workers, [50, 500, 5]) == spread(workers, [50, 500, 5])
