"""Whether drafts pay at all: the veto that keeps a board from making things worse.

The rival is the same verifier decoding the stream alone, one token in every round. All streams are
judged at once, in arrays: there may be a thousand, and every round asks.
This module must never choose among lengths that pay; that is the policies' work.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from shared.speculation.goodput import FloatArray, IntArray, expected_tokens_up_to
from verifier.policies.draft_policy import BoolArray
from verifier.policies.waits import WAITING_ROUNDS

# A draft token below this chance to be accepted is not worth its bytes: at 0.15 a board of
# acceptance rate 0.9 drafts up to 18 tokens, one of 0.7 up to 5.
SMALLEST_SURVIVAL = 0.15

# Where verdicts and drafts travel for long, the board has nothing better to do meanwhile: next to
# 0.15 this gives 2 to 4 % more tokens/s for 5 to 20 % more drafting (virtual time, 100 ms link).
SMALLEST_SURVIVAL_ON_THE_WAY = 0.05

# In `rejection`, what is drafted past a whole draft counts only if all of that is accepted and the
# guess of its bonus token is right. 0.1 and 0.3 are as good (21 settings in virtual time).
SMALLEST_CHANCE_TO_GO_ON = 0.2

# Drafting on before the verdict on what is in flight costs another message, so it takes more.
SMALLEST_SURVIVAL_AHEAD = 0.3


class DraftCosts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What decides whether the drafts of some streams pay; all times in seconds."""

    acceptance_rates: FloatArray  # [num_streams], in (0, 1)
    draft_token_seconds: FloatArray  # [num_streams]: each board's time for one draft token
    round_trip_seconds: FloatArray  # [num_streams]
    waits: BoolArray  # [num_streams]: sits out rounds until its draft is there (`rejection` does)
    round_seconds: float
    """T: the round as it is without drafts."""
    token_seconds: float
    """c1: what one more token adds to the round."""

    def of(self, chosen: IntArray | BoolArray) -> DraftCosts:
        """Those of some of the streams."""
        return DraftCosts(
            acceptance_rates=self.acceptance_rates[chosen],
            draft_token_seconds=self.draft_token_seconds[chosen],
            round_trip_seconds=self.round_trip_seconds[chosen],
            waits=self.waits[chosen],
            round_seconds=self.round_seconds,
            token_seconds=self.token_seconds,
        )

    def draft_seconds(self, lengths: int | IntArray) -> FloatArray:
        """From a verdict to the arrival of a draft that answers it."""
        return self.round_trip_seconds + lengths * self.draft_token_seconds


def best_lengths(costs: DraftCosts, asked_length: int) -> IntArray:
    """The lengths of at most `asked_length` that give each stream most tokens per second.

    0 if none gives more than the stream gets alone, 1 / T. One that waits must win its drafting and
    round trip back, so it may need a minimum: where 2 tokens do not cover the round trip, 6 may;
    but the longer a draft, the less likely is it that the board may go on past it. One that never
    waits must get ahead of the target at all, t_draft < T, and its drafts must earn the round's
    growth: mu(S) / (T + S * c1) > 1 / T.
    """
    rates = costs.acceptance_rates
    if asked_length <= 0 or not len(rates):
        return np.zeros(len(rates), dtype=np.int64)
    lengths = np.arange(1, asked_length + 1, dtype=np.int64)
    tokens = expected_tokens_up_to(rates, asked_length)
    round_seconds = costs.round_seconds + lengths.astype(np.float64) * costs.token_seconds
    speeds = tokens / round_seconds
    if costs.waits.any():
        waiting = costs.of(costs.waits)
        seconds = _seconds_of_waiting(waiting, lengths, round_seconds)
        speeds[costs.waits] = tokens[costs.waits] / seconds
    speeds[lengths > worthwhile_depths(rates)[:, None]] = 0.0
    best_columns = speeds.argmax(axis=1)  # the first of equal ones
    pays = speeds[np.arange(len(rates)), best_columns] > 1.0 / costs.round_seconds
    pays &= costs.waits | (costs.draft_token_seconds < costs.round_seconds)
    return np.where(pays, best_columns + 1, 0)


def _seconds_of_waiting(
    costs: DraftCosts, lengths: IntArray, round_seconds: FloatArray
) -> FloatArray:
    """The mean times from one draft's verdict to the next one's, of streams that wait.

    A draft that is begun with the verdict takes the round trip, the drafting and 1.5 rounds; where
    the board could go on, it takes a round, or the drafting if that is more.

    Args:
        costs: of these streams [num_streams].
        lengths: of the drafts [num_lengths].
        round_seconds: with so many draft tokens [num_lengths].
    """
    drafting_seconds = costs.draft_token_seconds[:, None] * lengths
    begun_seconds = (WAITING_ROUNDS - 1.0) * costs.round_seconds + round_seconds
    begun_seconds = begun_seconds + costs.round_trip_seconds[:, None] + drafting_seconds
    ahead_seconds = np.maximum(round_seconds, drafting_seconds)
    chances = costs.acceptance_rates[:, None] ** (lengths + 1)
    chances = np.where(chances >= SMALLEST_CHANCE_TO_GO_ON, chances, 0.0)
    seconds: FloatArray = (1.0 - chances) * begun_seconds + chances * ahead_seconds
    return seconds


def can_go_on(acceptance_rate: float, length: int) -> bool:
    """Whether what the board drafts past a whole draft counts often enough, in `rejection`."""
    return acceptance_rate ** (length + 1) >= SMALLEST_CHANCE_TO_GO_ON


def worthwhile_depth(acceptance_rate: float, smallest_survival: float = SMALLEST_SURVIVAL) -> int:
    """How far beyond the committed tokens a draft token still has a fair chance to survive.

    Deeper ones cost energy and bytes for little, even where the verifier would take them for free.
    """
    return max(int(math.log(smallest_survival) / math.log(acceptance_rate)), 1)


def worthwhile_depths(acceptance_rates: FloatArray) -> IntArray:
    """The same for many streams [num_streams]."""
    depths = math.log(SMALLEST_SURVIVAL) / np.log(acceptance_rates)
    return np.maximum(depths.astype(np.int64), 1)
