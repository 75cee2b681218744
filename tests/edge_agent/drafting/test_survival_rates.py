from __future__ import annotations

import pytest

from edge_agent.drafting.survival_rates import SurvivalRates


def observe(rates: SurvivalRates, grade: int, *outcomes: bool) -> None:
    for survived in outcomes:
        rates.observe(grade, survived=survived)


def test_a_rate_starts_from_the_guess_and_moves_to_what_is_seen() -> None:
    rates = SurvivalRates([0.2, 0.7])
    assert (0.2, pytest.approx(0.7)) == (rates.rate(0), rates.rate(1))
    observe(rates, 0, *[True] * 8)
    assert 0.55 < rates.rate(0) < 0.6
    assert rates.rate(1) == pytest.approx(0.7)
    observe(rates, 0, *[True] * 1000)
    assert 0.9 < rates.rate(0) < 1.0


def test_older_tokens_fade() -> None:
    rates = SurvivalRates([0.5])
    observe(rates, 0, *[True] * 1000, *[False] * 100)
    assert rates.rate(0) < 0.3


def test_a_stream_starts_from_its_device_and_teaches_it() -> None:
    device = SurvivalRates([0.5])
    first = device.branch()
    observe(first, 0, *[True] * 50)
    assert device.rate(0) < first.rate(0)  # the stream knows best how it goes itself
    second = device.branch()
    assert second.rate(0) == pytest.approx(device.rate(0))
    observe(second, 0, *[False] * 20)
    assert second.rate(0) < device.rate(0) < first.rate(0)


def test_what_was_seldom_tried_may_be_better_than_it_looks() -> None:
    rates = SurvivalRates([0.8])
    observe(rates, 0, False, False)
    at_first = rates.highest_rate(0) - rates.rate(0)
    observe(rates, 0, *[True, False] * 30)
    assert 0 < rates.highest_rate(0) - rates.rate(0) < at_first
