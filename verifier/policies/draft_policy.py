"""What every scheduling policy takes and gives: lengths after a round, tests before the next one.

Policies must never read a clock, draw from a random generator that was not handed to them, or
remember a stream: what they learn is of the fleet, and what they must know of a stream the next
time is kept with it (`LengthPlan.memories`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from shared.speculation.goodput import FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]

# Numbers that a policy may have kept with each stream.
MEMORY_LENGTH = 3


class BudgetLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that bound a round."""

    max_round_tokens: int
    """Drafts + one token per stream + prefill; what the engine can hold."""
    budget_tokens: int | None
    """A fixed budget, or `None` to derive it from `slowdown_limit`."""
    slowdown_limit: float
    """By how much drafts may lengthen a round for each stream, in relation to what it gains."""

    def less(self, num_draft_tokens: int) -> BudgetLimits:
        """The limits of what is left when so many draft tokens have their place already."""
        if self.budget_tokens is None or not num_draft_tokens:
            return self
        remaining_tokens = max(self.budget_tokens - num_draft_tokens, 0)
        return msgspec.structs.replace(self, budget_tokens=remaining_tokens)


class OpenStreams(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a policy may know of the open streams; all arrays are [num_streams]."""

    acceptance_rates: FloatArray
    """Estimated probability that the next draft token survives, in (0, 1)."""
    num_observed: FloatArray
    """Positions that the acceptance rate was learnt from."""
    goodputs: FloatArray
    """X: output tokens per round of the stream's device, all its streams together, smoothed."""
    steady_goodputs: FloatArray
    """The same, smoothed over several times as many rounds."""
    weights: FloatArray
    """Priority of the stream's device, above 0."""
    num_siblings: IntArray
    """Streams of its device in the round, itself included."""
    max_lengths: IntArray
    """The longest draft that the stream can use; 0: none."""
    draft_token_seconds: FloatArray
    """Seconds that the board needs for a draft token; 0: not known yet."""
    round_trip_seconds: FloatArray
    """Seconds from a message to the board's answer, without the drafting; 0: not known yet."""
    memories: FloatArray
    """What the policy had kept with each stream [num_streams, MEMORY_LENGTH]; 0 at first."""
    waits: BoolArray
    """Whether the stream goes on with a whole draft only (`rejection`)."""
    best_chances: FloatArray
    """What the board's surer tokens are worth, one in five; 0: it does not say which they are."""

    @property
    def shares(self) -> FloatArray:
        """Each stream's part of the weight of its device [num_streams]."""
        shares: FloatArray = self.weights / self.num_siblings
        return shares

    def __len__(self) -> int:
        return len(self.max_lengths)


class RoundTimes(msgspec.Struct, frozen=True, gc=False):
    """How long rounds take."""

    seconds_with: FloatArray
    """T of the next round with 0, 1, 2, … draft tokens, as far as it has room for them."""
    mean_seconds: float
    """From one round to the next, waiting included, smoothed; T without drafts at first."""
    num_rounds: int
    """Rounds so far."""
    between_seconds: float = 0.0
    """What passes between two rounds whatever is drafted: the verifier's own work."""


class Outlook(NamedTuple):
    """What a policy looks at."""

    streams: OpenStreams
    times: RoundTimes
    total_weight: float  # of all devices in the round
    live_hazards: FloatArray | None = None
    """-log of the chance of each live token to be accepted if those before it are, in their turns.

    Of what is tested whole there is none. NaN: its board does not say, so the acceptance rate does.
    It hangs on what was known before the token was drawn alone (`shared.speculation.confidence`).
    """


class LengthPlan(msgspec.Struct, frozen=True):
    """What the streams may draft for the next rounds."""

    budget_tokens: int
    """Draft tokens that a round may hold over all streams."""
    lengths: IntArray
    """What each should have ready for a round [num_streams]; 0: nothing."""
    depths: IntArray | None = None
    """How far beyond the committed tokens each may draft; None: as far as its length asks for.

    Where the length is 0, such tokens are not tested, but met by the target's own.
    """
    least_survivals: FloatArray | None = None
    """How likely all that a board has drafted must be to survive for it to go on; None: any."""
    waited_survivals: FloatArray | None = None
    """The same where the stream sits out for its draft, so that each token takes its time."""
    memories: FloatArray | None = None
    """What the next plan finds with each stream [num_streams, MEMORY_LENGTH]; None: as before."""


class LiveDrafts(NamedTuple):
    """Draft tokens that are here as a round starts; lists over its streams, in their turns.

    What a stream cannot go on without has its place already and is not in these numbers.
    """

    num_testable: Sequence[int]
    own_lengths: Sequence[int]  # what each should have ready for a round
    prices: Sequence[float]  # of a token, in tokens of the budget
    is_whole: Sequence[bool]  # a chunk: cut in two it costs the stream a token
    budget: float  # what the plan has left for them
    num_room: int  # tokens that the round has left


class DraftPolicy(Protocol):
    """Decides how far boards draft, and which of their tokens a round tests."""

    weighs_payoff: ClassVar[bool]
    """Whether it decides itself if drafts pay; else the guard does, and grants probes."""
    uses_confidence: ClassVar[bool]
    """Whether it asks how sure boards are of their tokens, which is a byte of each."""

    def plan(self, outlook: Outlook, limits: BudgetLimits) -> LengthPlan:
        """The lengths that are granted when the running round ends.

        Each is at least 0 and at most the stream's `max_length`; their sum is at most the budget.
        """
        ...

    def choose(self, live: LiveDrafts, look: Callable[[], Outlook]) -> Sequence[int]:
        """How many of its testable tokens the round that starts now tests of each stream.

        Their prices come to the budget at most, where the operator fixed that, and their number to
        the room at most. `look` gathers what is known of the same streams in the same order, with
        the times of the round as it is without these tokens; that takes time.
        """
        ...
