"""A target without weights whose cache remembers what was written into every cell.

A cell holds the whole sequence of tokens that its keys and values were computed from, so reading a
context also proves that no cell is stale, foreign or missing.
"""

from __future__ import annotations

import numpy as np

from shared.sampling import SamplingParameters, dense_probabilities
from shared.scripted_model import ScriptedModel
from shared.speculation import Verification, verify_coupled, verify_rejection
from verifier.target import ItemOutcome, Round, RoundItem, RoundOutcome, Verify


class FakeTarget:
    """A `TargetModel` over a scripted language model."""

    model_name = "fake"
    context_tokens = 4096

    def __init__(self, model: ScriptedModel, num_blocks: int, block_tokens: int) -> None:
        self.model = model
        self.vocab_size = model.vocab_size
        self.num_blocks = num_blocks
        self.block_tokens = block_tokens
        self._cells: dict[tuple[int, int], tuple[int, ...]] = {}

    def verify(self, round_: Round) -> RoundOutcome:
        for item in round_.items:
            self._write(item)
        outcomes = tuple(
            None if item.verify is None else self._check(self.read(item), item.verify)
            for item in round_.items
        )
        return RoundOutcome(outcomes, forward_seconds=0.001, sampling_seconds=0.0)

    def read(self, item: RoundItem) -> tuple[int, ...]:
        """The sequence that the item's last query sees; all its cells must agree on it."""
        written = [self._cells[self._cell(item, i)] for i in range(item.context_tokens)]
        assert [written[-1][: i + 1] for i in range(len(written))] == written
        return written[-1]

    def _write(self, item: RoundItem) -> None:
        assert item.token_ids, "an item without tokens has no query"
        assert len(item.block_table) * self.block_tokens >= item.context_tokens
        for i, token_id in enumerate(item.token_ids, start=item.num_cached_tokens):
            before = self._cells[self._cell(item, i - 1)] if i else ()
            self._cells[self._cell(item, i)] = (*before, token_id)

    def _cell(self, item: RoundItem, position: int) -> tuple[int, int]:
        block, offset = divmod(position, self.block_tokens)
        return item.block_table[block], offset

    def _check(self, context: tuple[int, ...], verify: Verify) -> ItemOutcome:
        first = len(context) - len(verify.draft_token_ids)
        target_probs = np.array(
            [
                dense_probabilities(self.model.logits(context[:end]), verify.sampling)
                for end in range(first, len(context) + 1)
            ]
        )
        made = _verification(target_probs, verify)
        return ItemOutcome(made.num_accepted, made.token_id, made.accept_probs)


def target_alone(
    model: ScriptedModel,
    prompt_ids: tuple[int, ...],
    sampling: SamplingParameters,
    seed: int,
    num_tokens: int,
) -> list[int]:
    """What the target says without any draft, token by token (greedy and `coupled`)."""
    output: list[int] = []
    for position in range(num_tokens):
        probs = dense_probabilities(model.logits((*prompt_ids, *output)), sampling)
        made = verify_coupled(probs[np.newaxis], (), seed, position)
        assert made.token_id is not None
        output.append(made.token_id)
    return output


def _verification(target_probs: np.ndarray, verify: Verify) -> Verification:
    draft_ids = verify.draft_token_ids
    if verify.mode == "coupled":
        return verify_coupled(target_probs, draft_ids, verify.seed, verify.position)
    return verify_rejection(
        target_probs,
        draft_ids,
        verify.rows,
        verify.seed,
        verify.position,
        draws_bonus=verify.draws_bonus,
    )
