"""GoodSpeed's synchronous rounds as published: all wait for the slowest, then lengths are dealt.

Many instances are played at once, as arrays [num_instances, num_clients]. The schedulers are those
of `verifier.policies`, dealt for all instances together; a test holds them to each other.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from shared.speculation.goodput import FloatArray, IntArray

Scheduler = Literal["fixed", "random", "goodspeed"]

# An acceptance probability min(1, p/q) of a position is drawn from a Beta law with the client's
# mean and this concentration: 0 would be plain accept bits, infinity no noise at all.
CONCENTRATION = 1.0
# Where the paper gives no first values: an average draft, a goodput of one token.
FIRST_ACCEPTANCE = 0.7
FIRST_GOODPUT = 1.0
_RATE_BOUNDS = (0.01, 0.99)


class RoundSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One arm."""

    scheduler: Scheduler
    budget_tokens: int
    num_rounds: int
    goodput_smoothing: float = 0.1
    """beta of the paper."""
    acceptance_smoothing: float | None = 0.1
    """eta of the paper; None: acceptance is known."""


class RoundsPlayed(msgspec.Struct, frozen=True):
    """What came of it."""

    expected_goodputs: FloatArray
    """Mean of mu(S) over rounds [num_instances, num_clients]."""
    sampled_goodputs: FloatArray
    """Mean of accepted tokens + 1 [num_instances, num_clients]."""
    longest_draft: FloatArray
    """Mean over rounds of the longest draft, for which all wait [num_instances]."""


def play_rounds(
    acceptance_rates: FloatArray, settings: RoundSettings, random: np.random.Generator
) -> RoundsPlayed:
    """Barrier rounds of all instances; rates are [num_instances, num_clients]."""
    shape = acceptance_rates.shape
    known = settings.acceptance_smoothing is None
    rates = acceptance_rates if known else np.full(shape, FIRST_ACCEPTANCE)
    goodputs = np.full(shape, FIRST_GOODPUT)
    expected, sampled = np.zeros(shape), np.zeros(shape)
    longest = np.zeros(shape[0])
    for _ in range(settings.num_rounds):
        lengths = _lengths(settings, rates, goodputs, random)
        expected += _expected(acceptance_rates, lengths)
        longest += lengths.max(axis=1)
        if settings.acceptance_smoothing is None:
            accepted = _accepted_of_known(acceptance_rates, lengths, random)
        else:
            accepted, seen = _accepted_and_seen(acceptance_rates, lengths, random)
            smoothed = rates + settings.acceptance_smoothing * (seen - rates)
            rates = np.where(lengths > 0, np.clip(smoothed, *_RATE_BOUNDS), rates)
        goodputs = goodputs + settings.goodput_smoothing * (accepted + 1.0 - goodputs)
        sampled += accepted + 1.0
    count = settings.num_rounds
    return RoundsPlayed(expected / count, sampled / count, longest / count)


def _lengths(
    settings: RoundSettings, rates: FloatArray, goodputs: FloatArray, random: np.random.Generator
) -> IntArray:
    match settings.scheduler:
        case "fixed":
            return fixed_lengths(rates.shape, settings.budget_tokens)
        case "random":
            return random_lengths(rates.shape, settings.budget_tokens, random)
        case "goodspeed":
            return goodspeed_lengths(rates, goodputs, settings.budget_tokens)


def fixed_lengths(shape: tuple[int, ...], budget_tokens: int) -> IntArray:
    """C/N each, what is left to the first ones."""
    share, num_left = divmod(budget_tokens, shape[1])
    lengths: IntArray = np.broadcast_to(share + (np.arange(shape[1]) < num_left), shape)
    return lengths.astype(np.int64)


def random_lengths(
    shape: tuple[int, ...], budget_tokens: int, random: np.random.Generator
) -> IntArray:
    """All splits with a sum of at most C are equally likely: stars and bars."""
    num_instances, num_clients = shape
    keys = random.random((num_instances, budget_tokens + num_clients))
    bars = np.sort(np.argsort(keys, axis=1)[:, :num_clients], axis=1)
    lengths: IntArray = np.diff(bars, axis=1, prepend=-1) - 1
    return lengths


def goodspeed_lengths(rates: FloatArray, goodputs: FloatArray, budget_tokens: int) -> IntArray:
    """C times the token that adds most: a^(s+1) / X; equal ones go to the first client."""
    rows = np.arange(len(rates))
    gains = rates / goodputs
    lengths = np.zeros(rates.shape, dtype=np.int64)
    for _ in range(budget_tokens):
        best = gains.argmax(axis=1)
        lengths[rows, best] += 1
        gains[rows, best] *= rates[rows, best]
    return lengths


def _expected(rates: FloatArray, lengths: IntArray) -> FloatArray:
    means: FloatArray = (1.0 - rates ** (lengths + 1)) / (1.0 - rates)
    return means


def _accepted_of_known(
    rates: FloatArray, lengths: IntArray, random: np.random.Generator
) -> FloatArray:
    """Leading successes, by one draw: P(more than s) = a^(s+1)."""
    runs = np.floor(np.log(1.0 - random.random(rates.shape)) / np.log(rates))
    accepted: FloatArray = np.minimum(runs, lengths)
    return accepted


def _accepted_and_seen(
    rates: FloatArray, lengths: IntArray, random: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Accepted tokens, and the mean acceptance probability over all drafted positions."""
    longest = max(int(lengths.max()), 1)
    shape = (*rates.shape, longest)
    chances = random.beta(
        np.broadcast_to(CONCENTRATION * rates[:, :, None], shape),
        np.broadcast_to(CONCENTRATION * (1.0 - rates)[:, :, None], shape),
    )
    is_drafted = np.arange(longest) < lengths[:, :, None]
    is_accepted = (random.random(shape) < chances) & is_drafted
    accepted = np.logical_and.accumulate(is_accepted, axis=2).sum(axis=2).astype(np.float64)
    seen: FloatArray = (chances * is_drafted).sum(axis=2) / np.maximum(lengths, 1)
    return accepted, seen
