"""How the rows of a stream's checks are processed before they are sampled: frozen values.

What never changes in a stream is worked out once, what it wrote comes with every check.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.speculation.logit_processors import LogitProcessors, additions


class Additions(msgspec.Struct, frozen=True, eq=False):
    """What is added to a row."""

    token_ids: NDArray[np.int64]  # [n] distinct
    values: NDArray[np.float32]  # [n]; -inf rules a token out

    @classmethod
    def of(cls, added: dict[int, float]) -> Additions:
        """Of token ids to values."""
        token_ids = np.array(list(added), dtype=np.int64)
        return cls(token_ids, np.array(list(added.values()), dtype=np.float32))


class SeenTokens(msgspec.Struct, frozen=True, eq=False):
    """What stands before a check's first draft token, as penalties count it."""

    token_ids: NDArray[np.int64]  # [n] distinct; of the prompt, too, for a repetition penalty
    num_written: NDArray[np.float32]  # [n] how often each is in the output
    # [num_drafts] where each draft token stands among them; from n on those that are none of them,
    # in the order in which they come first.
    draft_places: NDArray[np.int64]

    def with_drafts(self, draft_token_ids: Sequence[int]) -> NDArray[np.int64]:
        """The token ids, and behind them those that only the drafts have, each once."""
        num_seen = len(self.token_ids)
        places = zip(self.draft_places.tolist(), draft_token_ids, strict=True)
        new = {place: token_id for place, token_id in places if place >= num_seen}
        return np.concatenate([self.token_ids, np.array(list(new.values()), dtype=np.int64)])


class Processing(msgspec.Struct, frozen=True, eq=False):
    """What a stream asks of its rows; its tokens are all inside the vocabulary."""

    processors: LogitProcessors
    end_ids: frozenset[int]  # the model's own
    early: Additions  # before the first `min_tokens` output tokens are there
    late: Additions

    @classmethod
    def of(cls, processors: LogitProcessors, end_ids: frozenset[int]) -> Processing:
        """What processors ask for where these ids end an output."""
        early, late = (
            Additions.of(additions(processors, end_ids, may_end=may_end))
            for may_end in (False, True)
        )
        return cls(processors, end_ids, early, late)

    def num_early(self, position: int, num_rows: int) -> int:
        """How many of the rows from an output position on get what is added early."""
        return min(max(self.processors.min_tokens - position, 0), num_rows)
