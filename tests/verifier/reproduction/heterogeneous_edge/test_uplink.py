"""Shares of a bandwidth: the closed form is what a numeric optimiser finds."""

from __future__ import annotations

import numpy as np
import pytest

from shared.speculation.goodput import FloatArray
from verifier.reproduction.heterogeneous_edge.scenario import EdgeScenario
from verifier.reproduction.heterogeneous_edge.uplink import (
    best_shares,
    bits_per_hertz,
    equal_shares,
    path_loss_decibels,
    upload_seconds,
)
from verifier.reproduction.heterogeneous_edge.world import draw_users


def numeric_shares(seconds_of_all: FloatArray) -> FloatArray:
    """Knows no formula: what the fastest user can spare goes to the slowest, in smaller parts.

    `seconds_of_all`: what each upload takes with the whole bandwidth.
    """
    shares = np.full(len(seconds_of_all), 1.0 / len(seconds_of_all))
    step = 0.1
    while step > 1e-12:
        seconds = seconds_of_all / shares
        slowest, fastest = int(seconds.argmax()), int(seconds.argmin())
        moved = shares.copy()
        moved[slowest] += step * shares[fastest]
        moved[fastest] -= step * shares[fastest]
        if (seconds_of_all / moved).max() < seconds.max():
            shares = moved
        else:
            step /= 2.0
    return shares


def test_no_numeric_optimiser_finds_better_shares() -> None:
    random = np.random.default_rng(4)
    for count in (2, 3, 5, 8):
        bits = random.integers(1, 513, size=count) * 32.0
        efficiencies = random.uniform(2.0, 17.0, size=count)
        best = best_shares(bits, efficiencies)
        found = numeric_shares(bits / efficiencies)
        least = upload_seconds(bits, efficiencies, best, 2e7)
        assert 1.0 == pytest.approx(best.sum())
        assert least <= upload_seconds(bits, efficiencies, found, 2e7) * (1 + 1e-12)
        assert best == pytest.approx(found, rel=1e-4)


def test_all_uploads_end_at_once() -> None:
    bits, efficiencies = np.array([32.0, 640.0, 64.0]), np.array([3.0, 9.0, 5.0])
    shares = best_shares(bits, efficiencies)
    seconds = bits / (efficiencies * shares)
    assert seconds == pytest.approx(np.full(3, seconds[0]))
    equal = upload_seconds(bits, efficiencies, equal_shares(3), 1e6)
    assert upload_seconds(bits, efficiencies, shares, 1e6) < equal


def test_rates_follow_from_the_path_loss() -> None:
    losses = path_loss_decibels(np.array([1000.0, 100.0]))
    assert losses.tolist() == pytest.approx([128.1, 90.5])
    # 23 dBm − 128.1 dB is 0.9 dB above −106 dBm.
    ratio = 10.0 ** ((10 * np.log10(200.0) - 128.1 + 106.0) / 10)
    rates = bits_per_hertz(losses, 0.2, -106.0)
    assert np.log2(1 + ratio) == pytest.approx(rates[0])
    assert rates[1] > rates[0]


def test_in_the_paper_s_cell_best_shares_halve_the_upload() -> None:
    """The aim is −50 % against equal ones, in the mean over ten seeds."""
    cell = EdgeScenario()
    changes = []
    for seed in range(1, 11):
        users = draw_users(cell, seed)
        bits, efficiencies = users.input_tokens * 32.0, users.efficiencies
        shares = best_shares(bits, efficiencies), equal_shares(len(bits))
        best, equal = (upload_seconds(bits, efficiencies, share, 25e6) for share in shares)
        changes.append(best / equal - 1.0)
    assert np.mean(changes) <= -0.5
