"""What a layer makes of the products of queries and keys before they become weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class ScoreRule:
    """The scores of one layer: product × `scale`, capped, hidden outside the window."""

    scale: float
    window: int | None = None  # how many tokens a query sees, itself included; None: all before it
    softcap: float | None = None  # scores become softcap × tanh(score / softcap)
    sinks: Tensor | None = None  # [num_heads]: a score of each head whose weight reads nothing
