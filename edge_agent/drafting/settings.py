"""What the operator of a board sets about drafting."""

from __future__ import annotations

import msgspec

# Prompts are read in pieces of this many tokens, so that other streams' drafts wait little.
PREFILL_CHUNK_TOKENS = 64
# The most tokens that must recur to be drafted without a model.
LONGEST_NGRAM = 8


class DraftSettings(msgspec.Struct, frozen=True):
    """What the operator of a board sets about drafting."""

    row_entries: int
    confidence_stop: float
    prefill_chunk_tokens: int
    context_tokens: int
    ngram_tokens: int = 0  # the longest n-gram that is looked up; 0: the model drafts alone
    has_model: bool = True  # False: n-grams alone

    def for_model(self, context_tokens: int) -> DraftSettings:
        """The same for another draft model, of so many tokens at most."""
        return msgspec.structs.replace(self, context_tokens=context_tokens, has_model=True)
