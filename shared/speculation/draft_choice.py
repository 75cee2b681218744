"""Which of the draft models that a board holds takes its new streams, by what streams came to.

A candidate is tried beside the draft that leads, streams in turn (ABBA), and each two of them are
one log ratio of tokens per second: what both have in common (the board, its link, the load of the
verifier) is in both. It leads once it is proven to be faster; it is dropped once it is proven to be
slower, or where so many pairs prove nothing. Later it is tried again, for texts change. Both ends
use this: the verifier for all its boards, a board for itself. Pure, without a clock. This module
must never know what a draft is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from shared.speculation.paired_test import MOST_PAIRS, Finding, PairedRates

OWN = b""
"""The draft that a board's settings name, which leads at first."""

# Streams differ by their texts, so fewer pairs are no proof, however alike they are. Where rates
# deviate by 0.3 an equal candidate led after 4 % of 500 trials, one that is 1.2 times as fast after
# 70 % (60 streams on average), one that is 1.4 times as fast after 99 % (26 streams).
LEAST_PAIRS = 6
# Streams of the board until a dropped draft is tried again; each time twice as many.
FIRST_REST_STREAMS = 200
MOST_REST_STREAMS = 6400


class Standing(msgspec.Struct, frozen=True):
    """How it is, for people."""

    leader: bytes
    candidate: bytes | None  # that is being tried
    num_pairs: int = 0
    speed_ratio: float = 1.0  # of the candidate over the leader, so far
    dropped: tuple[bytes, ...] = ()


def proven(rates: PairedRates) -> Finding:
    """What streams of two drafts prove so far."""
    return rates.pairs.finding if len(rates.pairs) >= LEAST_PAIRS else Finding.NOTHING


class DraftChoice:
    """Of one board; drafts are known by their checksums."""

    def __init__(self) -> None:
        self._leader = OWN
        self._held: tuple[bytes, ...] = ()
        self._dropped: dict[bytes, _Dropped] = {}
        self._trial: _Trial | None = None
        self._num_streams = 0

    @property
    def turns(self) -> tuple[bytes, ...]:
        """What new streams take, in this order, over and over."""
        trial = self._trial
        if trial is None:
            return (self._leader,)
        return (self._leader, trial.candidate, trial.candidate, self._leader)

    @property
    def standing(self) -> Standing:
        """What is known so far."""
        dropped = tuple(sha256 for sha256 in self._held if self._rests(sha256))
        trial = self._trial
        if trial is None:
            return Standing(self._leader, None, dropped=dropped)
        pairs = trial.rates.pairs
        return Standing(self._leader, trial.candidate, len(pairs), math.exp(pairs.mean), dropped)

    def hold(self, drafts: Sequence[bytes]) -> None:
        """The board holds these beside its own; they are tried in this order."""
        held = tuple(dict.fromkeys(drafts))
        if held == self._held:
            return
        self._held = held
        self._dropped = {sha256: rest for sha256, rest in self._dropped.items() if sha256 in held}
        if self._leader not in (OWN, *held):
            self._leader, self._trial = OWN, None
        if self._trial is not None and self._trial.candidate not in held:
            self._trial = None
        self._begin_trial()

    def observe(self, draft: bytes, tokens_per_second: float) -> None:
        """A stream with this draft ended; a rate of 0 says nothing."""
        self._num_streams += 1
        trial = self._trial
        if trial is None:
            self._begin_trial()
            return
        if tokens_per_second > 0.0 and draft in (self._leader, trial.candidate):
            trial.rates.add(tokens_per_second, is_ours=draft == trial.candidate)
            self._settle(trial)

    def _settle(self, trial: _Trial) -> None:
        finding = proven(trial.rates)
        if finding is Finding.NOTHING and trial.rates.num_pairs < MOST_PAIRS:
            return
        loser = trial.candidate
        if finding is Finding.FASTER:
            loser, self._leader = self._leader, trial.candidate
        self._drop(loser)
        self._trial = None
        self._begin_trial()

    def _drop(self, draft: bytes) -> None:
        before = self._dropped.get(draft)
        rest = FIRST_REST_STREAMS if before is None else 2 * before.rest_streams
        rest = min(rest, MOST_REST_STREAMS)
        self._dropped[draft] = _Dropped(rest, self._num_streams + rest)

    def _rests(self, draft: bytes) -> bool:
        dropped = self._dropped.get(draft)
        return dropped is not None and self._num_streams < dropped.until

    def _begin_trial(self) -> None:
        for draft in (*self._held, OWN):
            if self._trial is None and draft != self._leader and not self._rests(draft):
                self._trial = _Trial(draft)


class _Dropped(msgspec.Struct, frozen=True):
    rest_streams: int
    until: int  # in streams of the board


class _Trial:
    """Mutable state of one comparison."""

    def __init__(self, candidate: bytes) -> None:
        self.candidate = candidate
        self.rates = PairedRates()
