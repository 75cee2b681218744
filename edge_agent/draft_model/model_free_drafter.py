"""What stands in place of a draft model on a board that has none: a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge_agent.draft_model.drafter import Forward
from shared.errors import ModelError
from shared.protocol.vocabulary import TokenBytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ModelFreeDrafter:
    """Implements `Drafter`, but draws nothing: n-grams draft alone."""

    def __init__(self, token_bytes: Sequence[bytes], num_slots: int, context_tokens: int) -> None:
        self.model_name = "n-grams"
        self.token_bytes = TokenBytes(token_bytes)
        self.vocab_size = len(token_bytes)
        self.num_slots = num_slots
        self.context_tokens = context_tokens

    def forward(self, batch: Sequence[Forward]) -> list[NDArray[np.float32] | None]:
        """Never asked for, with `DraftSettings.has_model` false."""
        raise ModelError("this board has no draft model")

    def num_tokens(self, slot: int) -> int:
        return 0

    def truncate(self, slot: int, num_tokens: int) -> int:
        return 0

    def interrupt(self) -> None:
        """There is nothing to interrupt."""

    def close(self) -> None:
        """There is nothing to close."""
