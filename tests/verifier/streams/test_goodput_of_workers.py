"""A device's goodput over several workers: one rate, in the units of each worker's rounds."""

from __future__ import annotations

import pytest

from verifier.streams.estimates import GoodputEstimate
from verifier.streams.goodput_of_workers import GoodputOfWorkers


def test_at_one_worker_it_is_the_plain_estimate() -> None:
    plain, device = GoodputEstimate(), GoodputOfWorkers()
    here = device.at(0)
    here.num_streams = 1
    for num_tokens, seconds in ((3, 0.1), (1, 0.2), (5, 0.1), (0, 0.3)):
        plain.observe_round(num_tokens, seconds)
        here.observe_round(num_tokens, seconds)
    for estimate in (here, device):
        assert plain.tokens_per_round == estimate.tokens_per_round
        assert plain.tokens_per_second == estimate.tokens_per_second
    assert plain.steady_tokens_per_round == here.steady_tokens_per_round


def test_a_device_at_two_workers_weighs_as_one_that_has_all_its_tokens_at_one() -> None:
    spread, packed = GoodputOfWorkers(), GoodputOfWorkers()
    fast, slow, alone = spread.at(0), spread.at(1), packed.at(0)
    for part in (fast, slow, alone):
        part.num_streams = 1
    for _ in range(400):
        fast.observe_round(2, 0.01)
        slow.observe_round(3, 0.03)
        alone.observe_round(3, 0.01)  # 200 + 100 tokens per second, in rounds of 10 ms
    assert packed.tokens_per_second == pytest.approx(300, rel=1e-3)
    assert spread.tokens_per_second == pytest.approx(300, rel=1e-3)
    assert fast.tokens_per_round == pytest.approx(alone.tokens_per_round, rel=1e-3)
    assert slow.tokens_per_round == pytest.approx(9.0, rel=1e-3)  # in rounds of 30 ms
    assert slow.steady_tokens_per_round == pytest.approx(9.0, rel=1e-3)


def test_a_worker_that_the_device_has_left_counts_no_more_but_is_not_forgotten() -> None:
    device = GoodputOfWorkers()
    before, now = device.at(0), device.at(1)
    before.num_streams = now.num_streams = 1
    before.observe_round(4, 0.01)
    now.observe_round(2, 0.01)
    before.num_streams = 0
    assert now.own_tokens_per_round == now.tokens_per_round
    assert now.own_tokens_per_second == device.tokens_per_second
    now.num_streams = 0
    before.num_streams = 1
    assert before.own_tokens_per_round == before.tokens_per_round
    assert before.own_tokens_per_second == device.tokens_per_second
    assert before is device.at(0)


def test_nothing_is_known_before_the_first_round() -> None:
    device = GoodputOfWorkers()
    here = device.at(0)
    assert device.tokens_per_second is None
    assert here.tokens_per_second is None
    assert GoodputEstimate().tokens_per_round == here.tokens_per_round
