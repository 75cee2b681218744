"""A real target whose acceptance is scripted: the speed of a verifier without trained weights.

Acceptance is simulated, everything else is real: the wrapped target runs every round with its
forward pass, sampling and copies, and only then is what came out replaced by the script.
"""

from __future__ import annotations

from functools import cache

import msgspec
import numpy as np

from shared.speculation.noise import Domain, uniforms
from verifier.target.round import DraftCheck, ItemOutcome, Round, RoundOutcome
from verifier.target.target import TargetModel

# What every board drafts at every position, and what stands where it is wrong and the target says
# nothing else.
GUESS_ID = 7
OTHER_ID = 8


class AcceptanceScript:
    """Which output positions of a stream its board guesses right, each with the same chance."""

    def __init__(self, acceptance_rate: float, num_positions: int) -> None:
        """Write scripts of `num_positions` output tokens; positions do not depend on each other."""
        self.acceptance_rate = acceptance_rate
        self._num_positions = num_positions
        self._runs = cache(self._written)

    def num_right(self, seed: int, position: int) -> int:
        """How many positions from `position` on are right before the next wrong one."""
        return self._runs(seed)[position]

    def _written(self, seed: int) -> list[int]:
        # One call for a whole stream: a number for each token would cost more than a round may.
        drawn = uniforms(seed, 0, Domain.DRAFT, np.arange(self._num_positions))
        runs = [0]
        for is_right in reversed((drawn < self.acceptance_rate).tolist()):
            runs.append(runs[-1] + 1 if is_right else 0)
        return runs[::-1]


class ReplayTarget:
    """`TargetModel` that runs every round on another one and accepts what a script says."""

    def __init__(self, target: TargetModel, script: AcceptanceScript) -> None:
        self.model_name = target.model_name
        self.vocab_size = target.vocab_size
        self.context_tokens = target.context_tokens
        self.num_blocks = target.num_blocks
        self.block_tokens = target.block_tokens
        self._target = target
        self._script = script

    def run(self, round_: Round) -> RoundOutcome:
        """Run one round; see `verifier.target.target.TargetModel.run`."""
        outcome = self._target.run(round_)
        items = tuple(
            own
            if own is None or item.draft_check is None
            else self._scripted(item.draft_check, own)
            for item, own in zip(round_.items, outcome.items, strict=True)
        )
        return msgspec.structs.replace(outcome, items=items)

    def _scripted(self, draft_check: DraftCheck, own: ItemOutcome) -> ItemOutcome:
        if own.failure is not None:
            return own
        num_drafted = len(draft_check.draft_token_ids)
        num_right = self._script.num_right(draft_check.seed, draft_check.position)
        num_accepted = min(num_right, num_drafted)
        is_bonus = num_accepted == num_drafted
        token_id: int | None
        if is_bonus and not draft_check.draws_bonus:
            token_id = None
        elif is_bonus and num_right > num_accepted:
            token_id = GUESS_ID  # what the board drafted behind the tested tokens goes on living
        else:
            token_id = OTHER_ID if own.token_id in (None, GUESS_ID) else own.token_id
        # The mean of min(1, target/draft) over a board's drafts is its acceptance rate.
        num_probs = num_drafted if draft_check.mode == "rejection" else 0
        return ItemOutcome(num_accepted, token_id, (self._script.acceptance_rate,) * num_probs)
