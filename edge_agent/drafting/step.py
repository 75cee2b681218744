"""One step of a stream: tokens for the draft model to read, and a draw after them.

Pure values. This module must never know where a step is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from edge_agent.drafting.draw_spec import DrawSpec
from shared.protocol.draft_path import DraftToken

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class DraftStep(msgspec.Struct, frozen=True):
    """Tokens to feed to the draft model, and a draw after the last of them or none."""

    num_kept_tokens: int  # the slot is rolled back to these first
    token_ids: tuple[int, ...]
    spec: DrawSpec | None
    version: int
    silent: tuple[DraftToken, ...] = ()  # drawn in a row before the last: none was due

    @property
    def num_tokens(self) -> int:
        """What the slot holds when the step has ended."""
        return self.num_kept_tokens + len(self.token_ids)

    def behind(self, silent: Sequence[DraftToken]) -> DraftStep:
        """This step's draws in a row, these first."""
        kept, token_ids = self.num_kept_tokens, self.token_ids
        return DraftStep(kept, token_ids, self.spec, self.version, tuple(silent))

    def draw(self, logits: NDArray[np.float32] | None) -> DraftToken | None:
        """The drawn token; runs in the drafting thread."""
        if self.spec is None or logits is None:
            return None
        from edge_agent.drafting.draw import draw_token  # numpy's, for draft models alone

        return draw_token(self.spec, logits)


def tokens_between(
    start: int,
    end: int,
    prompt_ids: tuple[int, ...],
    output_ids: Sequence[int],
    drafted: Sequence[DraftToken],
) -> tuple[int, ...]:
    """Tokens of prompt, output and draft, counted from the first one of the prompt."""
    if end <= len(prompt_ids):
        return prompt_ids[start:end]
    num_settled = len(prompt_ids) + len(output_ids)
    if start >= num_settled:  # mostly; a long prompt need not be copied for it
        return tuple([t.token_id for t in drafted[start - num_settled : end - num_settled]])
    return (*prompt_ids, *output_ids, *[token.token_id for token in drafted])[start:end]
