"""AWC in the running verifier: its window for every stream, at every round, and two modes.

The window is what a round tests of a stream; 0 is fused mode: the target alone, and the board
drafts nothing but a probe now and then. Streams need not wait for their draft in `coupled` and
greedy, in `rejection` they do: there are weights for either. As published it knows no
`slowdown_limit`. This module must never decide by anything but the networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from shared.speculation.goodput import FloatArray
from verifier.policies.awc import (
    FIRST_WINDOW,
    AwcInputs,
    AwcMemory,
    AwcWeights,
    depths_ahead,
    next_memory,
)
from verifier.policies.budgeted import first_come
from verifier.policies.draft_policy import BudgetLimits, LengthPlan, LiveDrafts, Outlook
from verifier.policies.new_boards import believed_rates

# Streams that a round takes in the simulated worlds of the training.
USUAL_BATCH = 64


class AwcPolicy:
    """A `DraftPolicy` by networks; what AWC remembers of a stream is kept with it."""

    weighs_payoff: ClassVar[bool] = True
    uses_confidence: ClassVar[bool] = False

    def __init__(self, ahead: AwcWeights, waiting: AwcWeights) -> None:
        """Learnt from streams that never wait, and from such as wait for their own draft."""
        self._ahead = ahead
        self._waiting = waiting

    def plan(self, outlook: Outlook, limits: BudgetLimits) -> LengthPlan:
        """See `DraftPolicy`; windows are cut in the streams' order where the budget ends."""
        streams = outlook.streams
        before = _unpacked(streams.memories)
        inputs = _inputs(outlook, before)
        after = next_memory(self._ahead, before, inputs)
        if streams.waits.any():
            waiting = next_memory(self._waiting, before, inputs)
            which = np.flatnonzero(streams.waits)
            after.put(which, waiting.of(which))
        lengths = np.minimum(after.windows(), streams.max_lengths)
        num_room = len(outlook.times.seconds_with) - 1
        budget_tokens = num_room if limits.budget_tokens is None else limits.budget_tokens
        budget_tokens = min(budget_tokens, num_room)
        lengths = np.clip(budget_tokens - (np.cumsum(lengths) - lengths), 0, lengths)
        return LengthPlan(
            budget_tokens=budget_tokens,
            lengths=lengths,
            depths=depths_ahead(lengths, inputs),
            # Of a board that cannot draft there is no news.
            memories=np.where(
                (streams.max_lengths > 0)[:, None], np.column_stack(after), streams.memories
            ),
        )

    def choose(self, live: LiveDrafts, look: Callable[[], Outlook]) -> Sequence[int]:
        """See `DraftPolicy`; up to the window, or a chunk whole, as far as the budget goes."""
        parts = zip(live.num_testable, live.own_lengths, live.is_whole, strict=True)
        within = [count if whole else min(count, own) for count, own, whole in parts]
        return first_come(live._replace(num_testable=within))


def _inputs(outlook: Outlook, before: AwcMemory) -> AwcInputs:
    streams, times = outlook.streams, outlook.times
    num_streams = len(streams)
    ones = np.ones(num_streams)
    mean_seconds = max(times.mean_seconds, float(times.seconds_with[0]))
    num_added = min(num_streams, len(times.seconds_with) - 1)
    added_seconds = float(times.seconds_with[num_added] - times.seconds_with[0])
    growth = added_seconds * num_streams / max(num_added, 1) / mean_seconds
    return AwcInputs(
        queue_utilisation=num_streams / USUAL_BATCH * ones,
        acceptance_rates=believed_rates(streams.acceptance_rates, streams.num_observed),
        round_trip_seconds=streams.round_trip_seconds,
        token_seconds=mean_seconds * streams.num_siblings / streams.goodputs,
        windows=before.windows().astype(np.float64),
        draft_token_seconds=streams.draft_token_seconds,
        round_seconds=mean_seconds * ones,
        round_growth=growth * ones,
    )


def _unpacked(memories: FloatArray) -> AwcMemory:
    """What was packed by `np.column_stack`; of new streams all is 0."""
    smoothed = np.where(memories[:, 0] > 0.0, memories[:, 0], FIRST_WINDOW)
    return AwcMemory(smoothed, memories[:, 1] > 0.0, memories[:, 2].astype(np.int64))
