"""What passes between a stream and those who work for it: settings, one step, one verdict.

Pure values.  This module must never know where a step is computed.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.draw import DrawSpec, draw_token
from shared.path import DraftToken


class DraftSettings(msgspec.Struct, frozen=True):
    """What the operator of a board sets about drafting."""

    row_entries: int
    confidence_stop: float
    prefill_chunk_tokens: int
    context_tokens: int


class DraftStep(msgspec.Struct, frozen=True):
    """Tokens to feed to the draft model, and a draw after the last of them or none."""

    num_kept_tokens: int  # the slot is rolled back to these first
    token_ids: tuple[int, ...]
    spec: DrawSpec | None
    version: int

    def draw(self, logits: NDArray[np.float32] | None) -> DraftToken | None:
        """The drawn token; runs in the drafting thread."""
        return draw_token(self.spec, logits) if self.spec and logits is not None else None


class Committed(msgspec.Struct, frozen=True):
    """What a verdict committed."""

    token_ids: tuple[int, ...]
    num_accepted: int  # the first ones were drafted here
    num_tested: int  # the accepted ones, and the one that differed
    num_dead: int  # draft tokens that a difference made worthless
    num_survived: int  # draft tokens equal to what was committed there
