from __future__ import annotations

from random import Random

import pytest

from verifier.recording.runs_model import Bit, RunsModel, drawn_states, fit_runs

TRUE = RunsModel(rates=(0.95, 0.3), stays=(0.9, 0.8))


def played(model: RunsModel, num_bits: int, random: Random) -> tuple[list[int], list[int]]:
    """States, and which draft tokens are right."""
    state, states, bits = 0, [], []
    for _ in range(num_bits):
        states.append(state)
        bits.append(int(random.random() < model.rates[state]))
        state = state if random.random() < model.stays[state] else 1 - state
    return states, bits


def test_a_model_is_found_again() -> None:
    _, bits = played(TRUE, 8_000, Random(1))
    fitted = fit_runs([bits])
    assert fitted.rates == pytest.approx(TRUE.rates, abs=0.08)
    assert fitted.stays == pytest.approx(TRUE.stays, abs=0.08)


def test_positions_left_out_at_random_change_little() -> None:
    random = Random(2)
    _, whole = played(TRUE, 8_000, random)
    bits: list[Bit] = [bit if random.random() < 0.6 else None for bit in whole]
    fitted = fit_runs([bits])
    assert fitted.rates == pytest.approx(TRUE.rates, abs=0.08)
    assert fitted.stays == pytest.approx(TRUE.stays, abs=0.08)


def test_hard_stretches_that_nothing_tested_are_seen_as_hard() -> None:
    """Behind each wrong one the next three are left out, as the target goes on alone there."""
    _, whole = played(TRUE, 8_000, Random(3))
    bits: list[Bit] = []
    until = 0
    for place, bit in enumerate(whole):
        bits.append(None if place < until else bit)
        if bits[-1] == 0:
            until = place + 4
    known = [bit for bit in bits if bit is not None]
    fitted = fit_runs([bits])
    mean = sum(rate * share for rate, share in zip(fitted.rates, fitted.shares, strict=True))
    true_mean = sum(whole) / len(whole)
    assert sum(known) / len(known) > true_mean + 0.03
    assert mean == pytest.approx(true_mean, abs=0.04)


def test_independent_draws_have_their_rate_in_both_states_together() -> None:
    random = Random(4)
    fitted = fit_runs([[int(random.random() < 0.7) for _ in range(3000)]])
    mean = sum(rate * share for rate, share in zip(fitted.rates, fitted.shares, strict=True))
    assert 0.7 == pytest.approx(mean, abs=0.02)


@pytest.mark.parametrize("bit", [0, 1])
def test_a_text_of_one_kind_is_no_trouble(bit: int) -> None:
    fitted = fit_runs([[bit] * 50])
    mean = sum(rate * share for rate, share in zip(fitted.rates, fitted.shares, strict=True))
    assert bit == pytest.approx(mean, abs=0.03)


def test_of_nothing_nothing_is_right() -> None:
    assert max(fit_runs([[None, None], []]).rates) < 0.01


def test_drawn_states_are_those_that_were() -> None:
    states, bits = played(TRUE, 5000, Random(5))
    drawn = drawn_states(bits, TRUE, Random(6))
    agreeing = sum(a == b for a, b in zip(states, drawn, strict=True)) / len(states)
    assert agreeing > 0.8
    assert sum(drawn) / len(drawn) == pytest.approx(sum(states) / len(states), abs=0.03)
