"""Draws from weights as an exponential race: token i arrives at E_i / weight_i, the first one wins.

That is `shared.speculation.verification.draw` without logarithms, on the same random numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from verifier.torch_target.sampling.noise import waiting_times


@dataclass(frozen=True, slots=True)
class DraftRows:
    """The distributions of rejected draft tokens, to be subtracted from the target's."""

    index: Tensor  # [num_rejected] int64: the draws that they belong to
    token_ids: Tensor  # [num_rejected, k] int64
    probs: Tensor  # [num_rejected, k] float64; 0 where padded

    def scaled(self, factors: Tensor) -> DraftRows:
        """The same rows times factors [num_rejected]."""
        return DraftRows(self.index, self.token_ids, self.probs * factors[:, None])


class TargetRows(Protocol):
    """The target's distributions in some rows of a round."""

    @property
    def row_numbers(self) -> Tensor:
        """Which rows of the round [num_rows] these are."""
        ...

    def probs(self, index: Tensor, token_ids: Tensor) -> Tensor:
        """Probabilities of ids [n, k] in the rows at `index` [n]: [n, k] float64."""
        ...

    def draw(self, index: Tensor, keys: Tensor, drafts: DraftRows | None) -> Tensor:
        """Ids [n] drawn under keys [4, n] from the rows at `index` [n], less the drafts."""
        ...


def residual(token_ids: Tensor, weights: Tensor, drafts: DraftRows | None) -> Tensor:
    """max(weight - draft, 0) of ids [n, k]."""
    if drafts is None:
        return weights
    same = token_ids[drafts.index, :, None] == drafts.token_ids[:, None, :]
    drafted = (same * drafts.probs[:, None, :]).sum(2)
    return weights.index_add(0, drafts.index, drafted, alpha=-1).clamp_(min=0)


def first_to_arrive(
    keys: Tensor, token_ids: Tensor, weights: Tensor, drafts: DraftRows | None
) -> Tensor:
    """The winner [n] among ids [n, k], less the drafts, under keys [4, n].

    An id may stand there twice. Where the drafts leave nothing, the weights themselves race.
    """
    remaining = residual(token_ids, weights, drafts)
    remaining = remaining.where(remaining.amax(1, keepdim=True) > 0, weights)
    times = waiting_times(keys, token_ids) / remaining
    is_first = times == times.amin(1, keepdim=True)
    return token_ids.masked_fill(~is_first, token_ids.max()).amin(1)
