"""The scripted target and its tokenizer, put together as tests need them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.drafter import ScriptedDrafter, scripted_drafter
from shared.scripted_model import SCRIPTED_END_ID, ScriptedModel
from verifier.policies import FixedPolicy
from verifier.rounds import RoundSettings
from verifier.scripted_target import ScriptedTarget
from verifier.scripted_tokenizer import ScriptedTokenizer
from verifier.service import VerifierService

from tests.support.loopback import make_service, round_settings

VOCAB_SIZE = 64
MODEL_SEED = 7


class EndlessModel:
    """A scripted model that never ends its text."""

    def __init__(self, model: ScriptedModel) -> None:
        self.vocab_size = model.vocab_size
        self._model = model

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        logits = self._model.logits(tokens).copy()
        logits[SCRIPTED_END_ID] = -1e4  # e**-1e4 is 0
        return logits
