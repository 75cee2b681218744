"""Proportionally fair tokens per second: each draft token must be worth the delay that it causes.

GoodSpeed's rule counts tokens per round and splits a fixed budget. Here the devices' utility is the
sum of w log(X / T), with X a device's tokens per round and T the seconds from round to round: its
gradient (Stolyar 2005) makes a token that survives with probability s worth w s / X, and a round
that takes dT longer costs every device w dT / T. So there is a price in place of a budget: the
best k tokens of those that are really there are tested, for the k that gains most over the whole
curve of round times, stairs or not. Windows go to every board whose tokens can be worth the price.

It remembers three numbers of the fleet: by how much the price is raised so that the slowest device
loses no more than `slowdown_limit`, how much longer drafts made rounds of late, and how large the
fleet was. This module must never remember a stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, TypeVar

import numpy as np

from shared.speculation.goodput import FloatArray, IntArray, expected_tokens_up_to
from verifier.policies.draft_policy import (
    BoolArray,
    BudgetLimits,
    LengthPlan,
    LiveDrafts,
    OpenStreams,
    Outlook,
    RoundTimes,
)
from verifier.policies.new_boards import believed_rates
from verifier.policies.waits import LARGEST_HELD_PART, WAITING_ROUNDS

# How far boards draft: what lies deeper survives less often than this.
SMALLEST_SURVIVAL = 0.02
# What a board is asked to stop at; a draft of one token is always wanted where drafts pay.
PART_OF_PRICE_AHEAD = 0.25
LARGEST_ASKED_SURVIVAL = 0.9
# The limit is aimed at with some distance: it is kept by what was measured, not by a forecast.
AIMED_PART = 0.9
# How fast the raise of the price answers (per round, over the limit). With half of it the slowest
# of 64 cold boards loses a point more in its worst ten seconds, with twice as much all gain less.
GAIN = 0.1
MOST_EXCESS = 0.2  # one round that took ten times as long says nothing about drafts
MAX_LOG_RAISE = 6.0
# Many boards that come at once are all taken for good ones, and what devices lose by it is known
# rounds later. So the price begins raised where a large part of a fleet is new: by this over the
# limit where all of it is. Of 64 cold boards the slowest keeps a point more in its worst ten
# seconds. A bound on drafts until more is known does not do: boards draft on, for a later round.
NEW_RAISE = 0.1
LARGE_PART = 1.0 / 3.0
FEWEST_NEW_STREAMS = 32  # fewer show soon what they get
WEIGHT_SMOOTHING = 1.0 / 16.0
# How many times what the cost curve says drafts may have cost, at most: the rest of what rounds
# took is a stall, a prompt or other work on the machine, and no price would undo it.
LARGEST_ERROR = 2.0
GROWTH_SMOOTHING = 0.2
# From so many live tokens on it pays to leave out those that cannot be worth their price before all
# are sorted: 4,000 take 0.2 ms, 40,000 take 7 ms (one core, 2026-11).
MANY_TOKENS = 1024
ALMOST_ALL = 1.0 - 1e-9  # rounding must leave none out
ROUNDING = 1e-9
SMALLEST_LIMIT = 0.01


_Array = TypeVar("_Array", IntArray, FloatArray)


class RatePolicy:
    """A `DraftPolicy` in prices."""

    weighs_payoff: ClassVar[bool] = True
    uses_confidence: ClassVar[bool] = True

    def __init__(
        self, *, price_scale: float = 1.0, smallest_survival: float = SMALLEST_SURVIVAL
    ) -> None:
        """`price_scale`: for the search of a better price than the right one, in simulations."""
        self._price_scale = price_scale
        self._log_survival = math.log(smallest_survival)
        self._log_raise = 0.0
        self._usual_weight = 0.0  # of all devices, smoothed
        self._num_rounds = 0
        self._growth = 0.0  # part by which drafts lengthen rounds, by the curve

    def plan(self, outlook: Outlook, limits: BudgetLimits) -> LengthPlan:
        """See `DraftPolicy`; the budget is what the round has room for, or as it is fixed."""
        streams, times, total_weight, _ = outlook
        if times.num_rounds > self._num_rounds:
            self._num_rounds = times.num_rounds
            self._follow_limit(streams, times, limits.slowdown_limit)
            self._usual_weight += WEIGHT_SMOOTHING * (total_weight - self._usual_weight)
        new_weight = total_weight - self._usual_weight
        if new_weight > LARGE_PART * total_weight and len(streams) >= FEWEST_NEW_STREAMS:
            first_raise = NEW_RAISE / max(limits.slowdown_limit, SMALLEST_LIMIT)
            raised = first_raise * new_weight / total_weight
            self._log_raise = max(self._log_raise, min(raised, MAX_LOG_RAISE))
            self._usual_weight = total_weight
        rates = believed_rates(streams.acceptance_rates, streams.num_observed)
        goodputs = _goodputs(streams)
        threshold = self._price(times, total_weight) * goodputs / streams.weights
        mean_seconds = _mean_seconds(times)
        # A board that says which of its tokens are sure is worth its price for those.
        pays = (streams.max_lengths > 0) & (np.maximum(rates, streams.best_chances) > threshold)
        pays &= streams.draft_token_seconds < mean_seconds  # else it never gets ahead of the target
        log_rates = np.log(rates)
        worthwhile = (np.log(_between(threshold, 1e-9, 1.0)) / log_rates).astype(np.int64)
        lengths = np.minimum(np.maximum(worthwhile, 1), np.maximum(streams.max_lengths, 1))
        if streams.waits.any():
            wins, best = _of_waits(streams, rates, times)
            pays &= ~streams.waits | wins
            lengths = np.where(streams.waits, np.minimum(lengths, best), lengths)
        depths = np.maximum((self._log_survival / log_rates).astype(np.int64), 1)
        num_room = len(times.seconds_with) - 1
        budget_tokens = num_room if limits.budget_tokens is None else limits.budget_tokens
        lengths = _within(np.where(pays, lengths, 0), budget_tokens)
        # Where no stream waits a doubtful token may be tested when those before it are committed.
        least = np.where(streams.waits, threshold, PART_OF_PRICE_AHEAD * threshold)
        # Where it sits out for its draft alone, it gets nothing while a token is drafted.
        own_goodputs = goodputs / streams.num_siblings
        waited = threshold + own_goodputs * streams.draft_token_seconds / mean_seconds
        return LengthPlan(
            budget_tokens=min(budget_tokens, num_room),
            lengths=lengths,
            depths=np.where(pays, depths, 0),
            least_survivals=_between(least, SMALLEST_SURVIVAL, LARGEST_ASKED_SURVIVAL),
            waited_survivals=_between(waited, SMALLEST_SURVIVAL, LARGEST_ASKED_SURVIVAL),
        )

    def choose(self, live: LiveDrafts, look: Callable[[], Outlook]) -> Sequence[int]:
        """See `DraftPolicy`; chunks that must be tested anyway are tested whole, if they fit."""
        streams, times, total_weight, hazards = look()
        num_streams = len(live.num_testable)
        counts = np.fromiter(live.num_testable, np.int64, num_streams)
        is_plain = live.prices.count(1.0) == num_streams  # nearly always
        prices = np.ones(num_streams) if is_plain else np.array(live.prices)
        num_room, budget, before = float(live.num_room), live.budget, 0.0
        chosen = np.zeros_like(counts)
        if any(live.is_whole):
            whole = np.where(live.is_whole, counts, 0)
            counts = counts - whole
            paid = _within(whole * prices, max(budget, 0.0)) / prices
            chosen = _within((paid + ROUNDING).astype(np.int64), num_room)
            before = float(chosen @ prices)
            num_room -= float(chosen.sum())
            budget -= float((chosen * prices).sum())
        stream_of = np.repeat(np.arange(num_streams), counts)
        priorities = streams.weights / _goodputs(streams) / prices
        gains = priorities[stream_of] * _survival(streams, hazards, counts, stream_of)
        last = len(times.seconds_with) - 1
        if is_plain and MANY_TOKENS < len(gains) <= last - before:
            may_pay = gains >= self._smallest_loss(times, total_weight)
            stream_of, gains = stream_of[may_pay], gains[may_pay]
        best = np.argsort(-gains, kind="stable")  # a stream's tokens stay in their order
        of_best = None if is_plain else prices[stream_of[best]]
        costs = np.arange(1.0, len(best) + 1.0) if of_best is None else np.cumsum(of_best)
        fitting = int(np.searchsorted(costs, min(num_room, budget), "right"))
        best, costs = best[:fitting], costs[:fitting]
        if not len(best):
            return self._noted(chosen, prices, times)
        gained = np.cumsum(gains[best] if of_best is None else gains[best] * of_best[:fitting])
        indices = np.minimum(np.ceil(before + costs), last).astype(np.int64)
        seconds = times.seconds_with[indices] - times.seconds_with[min(math.ceil(before), last)]
        net = gained - self._scale * total_weight * seconds / _mean_seconds(times)
        num_best = int(net.argmax()) + 1
        if net[num_best - 1] > 0.0:
            chosen += np.bincount(stream_of[best[:num_best]], minlength=len(chosen))
        return self._noted(chosen, prices, times)

    def _noted(self, chosen: IntArray, prices: FloatArray, times: RoundTimes) -> list[int]:
        num_drafts = min(math.ceil(float(chosen @ prices)), len(times.seconds_with) - 1)
        growth = float(times.seconds_with[num_drafts] / times.seconds_with[0]) - 1.0
        self._growth += GROWTH_SMOOTHING * (growth - self._growth)
        return chosen.tolist()  # type: ignore[no-any-return]

    def _smallest_loss(self, times: RoundTimes, total_weight: float) -> float:
        """What one more token costs at least; what gains less is never the last of the best."""
        smallest_step = float(np.diff(times.seconds_with).min(initial=math.inf))
        lost = self._scale * total_weight * smallest_step / _mean_seconds(times)
        return lost * ALMOST_ALL

    def _price(self, times: RoundTimes, total_weight: float) -> float:
        """What a draft token costs at least: the smallest slope that the curve offers."""
        growth = times.seconds_with[1:] - times.seconds_with[0]
        if not len(growth):
            return math.inf
        growth /= np.arange(1.0, len(growth) + 1.0)
        slope = float(growth.min())
        return self._scale * total_weight * slope / _mean_seconds(times)

    @property
    def _scale(self) -> float:
        return self._price_scale * math.exp(self._log_raise)

    def _follow_limit(self, streams: OpenStreams, times: RoundTimes, limit: float) -> None:
        """Raise the price while the slowest device loses more than it may, and lower it again."""
        if not len(streams):
            return
        limit = max(limit, SMALLEST_LIMIT)
        # A device that reads a prompt gets no tokens: that is no draft's fault.
        gain = max(float((streams.steady_goodputs / streams.num_siblings).min()), 1.0)
        alone_seconds = float(times.seconds_with[0]) + times.between_seconds
        longest = (1.0 + AIMED_PART * limit) * gain * alone_seconds
        most_seconds = (1.0 + LARGEST_ERROR * self._growth) * alone_seconds
        excess = min(min(times.mean_seconds, most_seconds) / longest - 1.0, MOST_EXCESS)
        raised = self._log_raise + GAIN * excess / limit
        self._log_raise = min(max(raised, 0.0), MAX_LOG_RAISE)


def _of_waits(
    streams: OpenStreams, rates: FloatArray, times: RoundTimes
) -> tuple[BoolArray, IntArray]:
    """Whether a stream that waits gets more than by the target alone, and its best length.

    The price of a token is what it costs others; this is what it costs the stream itself. Where
    all boards answer within `LARGEST_HELD_PART` of a round, rounds wait for them
    (`scheduling.awaited`), and a stream alone has none to miss.
    """
    bare_seconds = float(times.seconds_with[0])
    lengths = np.arange(1, max(int(streams.max_lengths.max(initial=1)), 1) + 1)
    drafting_seconds = lengths * streams.draft_token_seconds[:, None]
    own_seconds = streams.round_trip_seconds[:, None] + drafting_seconds
    misses_rounds = (own_seconds > LARGEST_HELD_PART * bare_seconds) & (len(streams) > 1)
    begun_seconds = own_seconds + np.where(misses_rounds, WAITING_ROUNDS, 1.0) * bare_seconds
    ahead_seconds = np.maximum(drafting_seconds, bare_seconds)
    goes_on = rates[:, None] ** (lengths + 1)  # the board was right about what follows, too
    seconds = goes_on * ahead_seconds + (1.0 - goes_on) * begun_seconds
    speeds = expected_tokens_up_to(rates, len(lengths)) * bare_seconds / seconds
    return speeds.max(axis=1) > 1.0, speeds.argmax(axis=1) + 1


def _survival(
    streams: OpenStreams, hazards: FloatArray | None, counts: IntArray, stream_of: IntArray
) -> FloatArray:
    """The chance of each live token to be accepted, in its stream's turn [counts.sum()]."""
    if hazards is None:
        hazards = np.full(len(stream_of), math.nan)
    is_unknown = np.isnan(hazards)
    if is_unknown.any():
        rates = believed_rates(streams.acceptance_rates, streams.num_observed)
        hazards = np.where(is_unknown, -np.log(rates)[stream_of], hazards)
    total = np.zeros(len(hazards) + 1)
    np.cumsum(hazards, out=total[1:])
    before = total[np.cumsum(counts) - counts]
    survival: FloatArray = np.exp(np.repeat(before, counts) - total[1:])
    return survival


def _goodputs(streams: OpenStreams) -> FloatArray:
    goodputs: FloatArray = np.maximum(streams.goodputs, 1.0)
    return goodputs


def _mean_seconds(times: RoundTimes) -> float:
    return max(times.mean_seconds, float(times.seconds_with[0]))


def _within(lengths: _Array, budget: float) -> _Array:
    """The lengths, or costs, cut from the last stream on where they exceed the budget."""
    before = np.cumsum(lengths) - lengths
    within: _Array = np.minimum(np.maximum(budget - before, 0), lengths).astype(lengths.dtype)
    return within


def _between(values: FloatArray, least: float, most: float) -> FloatArray:
    """`np.clip` of a few values, in half of its time."""
    between: FloatArray = np.minimum(np.maximum(values, least), most)
    return between
