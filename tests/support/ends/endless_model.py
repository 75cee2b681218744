"""The scripted model of most tests, which never ends its text; imported by light programs, too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from shared.speculation.scripted_model import SCRIPTED_END_ID, ScriptedModel

VOCAB_SIZE = 64
MODEL_SEED = 7


class EndlessModel:
    """A scripted model that never ends its text."""

    def __init__(self, model: ScriptedModel) -> None:
        self.vocab_size = model.vocab_size
        self._model = model

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Those of the model, but for the end of a text."""
        logits = self._model.logits(tokens).copy()
        logits[SCRIPTED_END_ID] = -1e4
        return logits

    def know_all(self) -> None:
        """Make all rows that it keeps, 2 MB in half a second: programs grow by them for an hour."""
        for length in range(self._model.order + 1):
            for context in product(range(self.vocab_size), repeat=length):
                self._model.logits(context)
