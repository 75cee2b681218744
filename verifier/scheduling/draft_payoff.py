"""Whether drafts pay at all: the veto that keeps a board from making things worse.

The rival is the same verifier decoding the stream alone, one token in every round.
This module must never choose among lengths that pay; that is the policies' work.
"""

from __future__ import annotations

import math

import msgspec

# Rounds in the cycle of a stream that waits: the rest of the one that is running when its draft
# arrives (half of it on average), then its own.
WAITING_ROUNDS = 1.5

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
    """What decides whether one stream's drafts pay; all times in seconds."""

    acceptance_rate: float
    draft_token_seconds: float
    """The board's time for one draft token."""
    round_trip_seconds: float
    round_seconds: float
    """T: the round as it is without this stream's drafts."""
    token_seconds: float
    """c1: what one more token adds to the round."""
    waits: bool
    """Whether the stream sits out rounds until its draft is there (`rejection` does)."""


def best_length(costs: DraftCosts, asked_length: int) -> int:
    """The length of at most `asked_length` that gives this stream most tokens per second.

    0 if none gives more than the stream gets alone, 1 / T. One that waits must win its drafting and
    round trip back, so it may need a minimum: where 2 tokens do not cover the round trip, 6 may;
    but the longer a draft, the less likely is it that the board may go on past it. One that never
    waits must get ahead of the target at all, t_draft < T, and its drafts must earn the round's
    growth: mu(S) / (T + S * c1) > 1 / T.
    """
    if not costs.waits and costs.draft_token_seconds >= costs.round_seconds:
        return 0
    best, best_speed = 0, 1.0 / costs.round_seconds
    survival = tokens = 1.0
    longest = min(asked_length, worthwhile_depth(costs.acceptance_rate))
    for length in range(1, longest + 1):
        survival *= costs.acceptance_rate
        tokens += survival  # mu(length), see `goodput.expected_tokens`
        seconds = costs.round_seconds + length * costs.token_seconds
        if costs.waits:
            seconds = _seconds_of_waiting(costs, length, seconds)
        if tokens > best_speed * seconds:
            best, best_speed = length, tokens / seconds
    return best


def _seconds_of_waiting(costs: DraftCosts, length: int, round_seconds: float) -> float:
    """The mean time from one draft's verdict to the next one's, of a stream that waits.

    A draft that is begun with the verdict takes the round trip, the drafting and 1.5 rounds; where
    the board could go on, it takes a round, or the drafting if that is more.
    """
    drafting_seconds = length * costs.draft_token_seconds
    begun_seconds = (WAITING_ROUNDS - 1.0) * costs.round_seconds + round_seconds
    begun_seconds += costs.round_trip_seconds + drafting_seconds
    ahead_seconds = max(round_seconds, drafting_seconds)
    chance = chance_to_go_on(costs.acceptance_rate, length)
    return (1.0 - chance) * begun_seconds + chance * ahead_seconds


def chance_to_go_on(acceptance_rate: float, length: int) -> float:
    """How likely what the board drafts past a whole draft counts, in `rejection`.

    0: too seldom to draft it.
    """
    chance: float = acceptance_rate ** (length + 1)
    return chance if chance >= SMALLEST_CHANCE_TO_GO_ON else 0.0


def worthwhile_depth(acceptance_rate: float, smallest_survival: float = SMALLEST_SURVIVAL) -> int:
    """How far beyond the committed tokens a draft token still has a fair chance to survive.

    Deeper ones cost energy and bytes for little, even where the verifier would take them for free.
    """
    return max(int(math.log(smallest_survival) / math.log(acceptance_rate)), 1)
