"""A round as the model's forward pass takes it: three vectors of integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from verifier.target.round import Round


@dataclass(frozen=True, slots=True)
class RoundInputs:
    """Everything that a forward pass reads beside weights, cache and layout."""

    token_ids: Tensor  # [num_tokens] int64
    positions: Tensor  # [num_tokens] int64
    # [num_rows] int64: the tokens whose logits are wanted, those of all checks before prompt rows
    rows: Tensor

    @classmethod
    def of(cls, round_: Round, positions: NDArray[np.int64]) -> RoundInputs:
        """Pack the round's tokens, with its `positions_of`; the vectors are on the CPU."""
        token_ids: list[int] = []
        rows: list[int] = []
        prompt_rows: list[int] = []
        for item in round_.items:
            if item.prompt_rows is not None:
                first = len(token_ids) + item.prompt_rows.first
                prompt_rows += range(first, first + len(item.prompt_rows.next_ids))
            token_ids += item.token_ids
            if item.draft_check is not None:
                first = len(token_ids) - len(item.draft_check.draft_token_ids) - 1
                rows += range(first, first + item.draft_check.num_logit_rows)
        return cls(
            token_ids=torch.from_numpy(np.array(token_ids, dtype=np.int64)),
            positions=torch.from_numpy(positions),
            rows=torch.from_numpy(np.array(rows + prompt_rows, dtype=np.int64)),
        )

    def to(self, device: torch.device) -> RoundInputs:
        """The same on the device of the model."""
        return RoundInputs(
            token_ids=self.token_ids.to(device),
            positions=self.positions.to(device),
            rows=self.rows.to(device),
        )
