"""Which tokens a grammar allows: what a stream, a round and a target say of it to each other.

The grammar itself is kept by `verifier.grammar`, which works in threads of its own: masks are made
while the target's forward pass runs. This module must never know what a grammar is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

PackedMasks = NDArray[np.uint32]  # [num_rows, num_words]; bit i of a row: token i may come


class TokenMasks(Protocol):
    """The masks of one check, which a thread makes."""

    def begin(self) -> None:
        """Let the thread begin; without this it begins with `wait`."""
        ...

    def wait(self, deadline: float) -> PackedMasks | None:
        """Those of the first rows that are ready by `deadline` (time.monotonic), perhaps none.

        Rows behind a draft token that may not come allow everything: nothing hangs on them. None:
        there will never be any, because the grammar is beyond its limits.
        """
        ...

    def advance(self, token_ids: Sequence[int], seconds: float) -> tuple[int, ...]:
        """These tokens came: those that are likely to follow, as the grammar forces their text.

        Call it at most once for each check. The next round waits for it, so that over many rounds
        it takes no more than `seconds` for each of their tokens; empty where that is too little.
        """
        ...


class StreamGrammar(Protocol):
    """The grammar of one stream, wherever its output stands."""

    @property
    def is_quick(self) -> bool:
        """Whether a round may hold the stream now, whatever drafts it tests."""
        ...

    def masks(self, output_ids: Sequence[int], draft_token_ids: Sequence[int]) -> TokenMasks:
        """The masks behind the output and behind each of the draft tokens, to be made."""
        ...

    def is_ready(self, output_ids: Sequence[int], draft_token_ids: Sequence[int]) -> bool:
        """Whether a round may hold the stream now; where not, its masks are being made."""
        ...


def allowed_tokens(masks: PackedMasks, vocab_size: int) -> NDArray[np.bool_]:
    """The masks unpacked [num_rows, vocab_size]."""
    packed = masks.astype("<u4", copy=False).view(np.uint8)
    return np.unpackbits(packed, axis=1, count=vocab_size, bitorder="little").view(np.bool_)
