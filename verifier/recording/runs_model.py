"""Acceptance that comes in runs: a text is easy or hard for a draft model, for a while.

A hidden Markov model of two states, fitted by expectation and maximisation (Rabiner, A Tutorial on
Hidden Markov Models, 1989) to what was tested; positions that were not tested say nothing. They are
mostly hard ones, for the target goes on alone behind each rejection: what was tested alone is too
good a picture. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

Bit = int | None  # 1: right; 0: wrong; None: was not tested
_Pair = tuple[float, float]  # one for each state

MOST_FITTED = 8_000  # positions; some 3 s of a core
_MOST_STEPS = 60
_ENOUGH = 1e-5  # of a step's gain in log-likelihood, for a position
_LEAST_RATE = 1e-3


class RunsModel(NamedTuple):
    """How often a draft token is right in each state, and how likely the state stays."""

    rates: _Pair
    stays: _Pair

    @property
    def shares(self) -> _Pair:
        """How much of a text is in each state."""
        leaves = 1 - self.stays[0], 1 - self.stays[1]
        return leaves[1] / (leaves[0] + leaves[1]), leaves[0] / (leaves[0] + leaves[1])


def fit_runs(streams: Sequence[Sequence[Bit]]) -> RunsModel:
    """The model of these texts; one that is never right where nothing was tested."""
    known = [bit for bits in streams for bit in bits if bit is not None]
    if not known:
        return RunsModel((_LEAST_RATE, _LEAST_RATE), (0.8, 0.8))
    mean = sum(known) / len(known)
    model = RunsModel((_inside((1 + mean) / 2), _inside(mean / 2)), (0.8, 0.8))
    fitted = _first(streams, MOST_FITTED)
    num_bits, before = sum(map(len, fitted)), -math.inf
    for _ in range(_MOST_STEPS):
        counts = _Counts()
        likelihood = sum(counts.add(bits, model) for bits in fitted)
        model = counts.model(model)
        if likelihood - before < _ENOUGH * num_bits:
            break
        before = likelihood
    return model


def drawn_states(bits: Sequence[Bit], model: RunsModel, random: Random) -> list[int]:
    """A state for each position, drawn given all that was tested: filtered on, sampled back."""
    filtered, _ = _filtered(bits, model)
    states: list[int] = []
    for now in reversed(filtered):
        weights = now
        if states:
            to = states[-1]
            weights = now[0] * _moves(model, 0, to), now[1] * _moves(model, 1, to)
        states.append(int(random.random() * (weights[0] + weights[1]) >= weights[0]))
    return states[::-1]


class _Counts:
    """What the expectation step adds up over all texts."""

    def __init__(self) -> None:
        self.right = [0.0, 0.0]
        self.tested = [0.0, 0.0]
        self.stayed = [0.0, 0.0]
        self.went_on = [0.0, 0.0]

    def add(self, bits: Sequence[Bit], model: RunsModel) -> float:
        """Count one text; its log-likelihood."""
        filtered, likelihood = _filtered(bits, model)
        later: _Pair | None = None  # how likely each state is at the next position, given all
        for place in range(len(bits) - 1, -1, -1):
            now = filtered[place]
            if later is not None:
                now = self._count_moves(now, later, model)
            bit = bits[place]
            if bit is not None:
                for state in (0, 1):
                    self.tested[state] += now[state]
                    self.right[state] += now[state] * bit
            later = now
        return likelihood

    def _count_moves(self, now: _Pair, later: _Pair, model: RunsModel) -> _Pair:
        """Of one place to the next; how likely each state is here, given all that was tested."""
        ahead = _predicted(now, model)
        smoothed = [0.0, 0.0]
        for state in (0, 1):
            for to in (0, 1):
                joint = now[state] * _moves(model, state, to) * later[to] / ahead[to]
                smoothed[state] += joint
                self.stayed[state] += joint * (state == to)
            self.went_on[state] += smoothed[state]
        return smoothed[0], smoothed[1]

    def model(self, before: RunsModel) -> RunsModel:
        """The maximisation step; what nothing speaks of stays as it was."""
        rates, stays = list(before.rates), list(before.stays)
        for state in (0, 1):
            if self.tested[state] > 0.0:
                rates[state] = _inside(self.right[state] / self.tested[state])
            if self.went_on[state] > 0.0:
                stays[state] = _inside(self.stayed[state] / self.went_on[state])
        return RunsModel((rates[0], rates[1]), (stays[0], stays[1]))


def _filtered(bits: Sequence[Bit], model: RunsModel) -> tuple[list[_Pair], float]:
    """How likely each state is at each position, given what was tested up to there."""
    ahead, likelihood = model.shares, 0.0
    filtered: list[_Pair] = []
    for bit in bits:
        now = ahead
        if bit is not None:
            right = model.rates
            seen = right if bit else (1 - right[0], 1 - right[1])
            joint = ahead[0] * seen[0], ahead[1] * seen[1]
            total = joint[0] + joint[1]
            likelihood += math.log(total)
            now = joint[0] / total, joint[1] / total
        filtered.append(now)
        ahead = _predicted(now, model)
    return filtered, likelihood


def _predicted(now: _Pair, model: RunsModel) -> _Pair:
    first = now[0] * model.stays[0] + now[1] * (1 - model.stays[1])
    return first, 1 - first


def _moves(model: RunsModel, state: int, to: int) -> float:
    return model.stays[state] if state == to else 1 - model.stays[state]


def _inside(rate: float) -> float:
    return min(max(rate, _LEAST_RATE), 1 - _LEAST_RATE)


def _first(streams: Sequence[Sequence[Bit]], num_bits: int) -> list[Sequence[Bit]]:
    chosen: list[Sequence[Bit]] = []
    for bits in streams:
        chosen.append(bits[:num_bits])
        num_bits -= len(chosen[-1])
        if num_bits <= 0:
            break
    return chosen
