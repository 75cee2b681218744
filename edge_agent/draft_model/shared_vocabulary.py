"""A draft model whose vocabulary is not quite the target's: what only one of them has.

Ids that both have mean the same, or there is no connection. The model never drafts an id that the
target lacks; an id that only the target has is never drafted either, and stands as another one in
the model's context, which makes drafts worse, not the text.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from edge_agent.draft_model.drafter import Drafter, Forward

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class SharedVocabulary:
    """Implements `Drafter` over another one, with the vocabulary that the verifier has."""

    def __init__(self, drafter: Drafter) -> None:
        """As long as no other is known, the vocabulary is the drafter's own."""
        self.own_token_bytes = drafter.token_bytes
        self.token_bytes = drafter.token_bytes
        self.model_name = drafter.model_name
        self.vocab_size = drafter.vocab_size
        self.context_tokens = drafter.context_tokens
        self.num_slots = drafter.num_slots
        self._drafter = drafter
        self._lacked_ids = array("q")

    @property
    def num_shared(self) -> int:
        """Ids that both have."""
        pairs = zip(self.own_token_bytes, self.token_bytes, strict=False)
        return sum(1 for own, theirs in pairs if own and theirs)

    @property
    def num_lacked(self) -> int:
        """Ids of the draft model that the target lacks."""
        return len(self._lacked_ids)

    def contradiction(self, token_bytes: Sequence[bytes]) -> int | None:
        """The first id that means one thing to the draft model and another one there."""
        pairs = zip(self.own_token_bytes, token_bytes, strict=False)
        found = (i for i, (own, theirs) in enumerate(pairs) if own and theirs and own != theirs)
        return next(found, None)

    def take_vocabulary(self, token_bytes: Sequence[bytes]) -> None:
        """From now on ids mean this; from any thread. Ids without bytes are not the target's."""
        num_known = len(token_bytes)
        lacked = (
            token_id
            for token_id, own in enumerate(self.own_token_bytes)
            if own and not (token_id < num_known and token_bytes[token_id])
        )
        self._lacked_ids = array("q", lacked)
        self.token_bytes = token_bytes

    def forward(self, batch: Sequence[Forward]) -> list[NDArray[np.float32] | None]:
        """As `Drafter.forward`; the logits of ids that the target lacks are -inf."""
        lacked_ids = self._lacked_ids
        results = self._drafter.forward([self._known(item) for item in batch])
        if len(lacked_ids):
            for logits in results:
                if logits is not None:
                    logits[lacked_ids] = -math.inf
        return results

    def _known(self, item: Forward) -> Forward:
        last_id = self.vocab_size - 1
        if max(item.token_ids) <= last_id:
            return item
        # The last ids of a vocabulary are its least common ones.
        known = tuple(min(token_id, last_id) for token_id in item.token_ids)
        return msgspec.structs.replace(item, token_ids=known)

    def num_tokens(self, slot: int) -> int:
        return self._drafter.num_tokens(slot)

    def truncate(self, slot: int, num_tokens: int) -> int:
        return self._drafter.truncate(slot, num_tokens)

    def interrupt(self) -> None:
        self._drafter.interrupt()

    def close(self) -> None:
        self._drafter.close()
