"""What a draft model can do for the agent: the contract, and the checks that all forms of it share.

A drafter holds `num_slots` token sequences and computes logits after them; one thread uses it.
It never samples, never knows about streams or the verifier, and never touches the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import msgspec

from shared.errors import GoodspeedError, ModelError, OutOfCache

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Smaller forms of a model that llama.cpp can write, the most exact first.
QUANTISATIONS = (
    *("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_1", "Q4_0", "IQ4_NL"),
    *("Q3_K_M", "Q3_K_S", "Q2_K"),
)


class DraftInterrupted(GoodspeedError):
    """Another thread called `interrupt()`; no slot of the batch kept any token of it."""

    def __init__(self) -> None:
        super().__init__("drafting was interrupted")


class Forward(msgspec.Struct, frozen=True):
    """Tokens to append to one slot; `wants_logits` asks for the logits after the last of them."""

    slot: int
    token_ids: tuple[int, ...]
    wants_logits: bool = True


class Drafter(Protocol):
    """A draft model with `num_slots` sequences of up to `context_tokens` tokens each.

    Not thread-safe, but for `interrupt`.
    """

    @property
    def model_name(self) -> str: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def context_tokens(self) -> int: ...

    @property
    def num_slots(self) -> int: ...

    @property
    def token_bytes(self) -> Sequence[bytes]:
        """The literal bytes of every id (special tokens: their literal text; padding: none)."""

    def forward(self, batch: Sequence[Forward]) -> list[NDArray[np.float32] | None]:
        """Append every item of the batch, each slot at most once, in as few model passes as fit.

        Returns per item the logits [vocab_size] after its last token, the caller's to keep, or None
        where they are not wanted.

        Raises:
            OutOfCache: a slot has no room for its tokens; nothing was appended.
            DraftInterrupted: `interrupt()` was called during this forward. The slots of the batch
                hold what they held before, or nothing (`num_tokens` tells) where the model cannot
                remove a part of a sequence.
            ModelError: a token id is outside the vocabulary, and nothing was appended; or the model
                failed, and the slots are as after an interruption.
        """

    def num_tokens(self, slot: int) -> int: ...

    def truncate(self, slot: int, num_tokens: int) -> int:
        """Keep the first `num_tokens` tokens of the slot and return how many it holds now.

        That is `num_tokens`, or 0 where the model cannot remove a part of a sequence (recurrent
        layers): the caller then feeds the kept tokens again.
        """

    def interrupt(self) -> None:
        """End the forward in progress with `DraftInterrupted`; from any thread.

        Without a forward in progress it does nothing: it never reaches into a later one.
        """

    def close(self) -> None: ...


def check_batch(drafter: Drafter, batch: Sequence[Forward]) -> None:
    """Check a batch against the contract of `Drafter.forward` before anything is appended.

    Raises:
        OutOfCache: a slot has no room for its tokens.
        ModelError: a token id is outside the vocabulary.
    """
    slots = [item.slot for item in batch]
    assert len(set(slots)) == len(slots), f"a slot appears twice in {slots}"
    for item in batch:
        assert 0 <= item.slot < drafter.num_slots, f"slot {item.slot} of {drafter.num_slots}"
        assert item.token_ids, "a forward appends at least one token"
        smallest_margin = min(min(item.token_ids), drafter.vocab_size - 1 - max(item.token_ids))
        if smallest_margin < 0:
            raise ModelError(f"a token id is outside the draft vocabulary of {drafter.vocab_size}")
        num_tokens = drafter.num_tokens(item.slot) + len(item.token_ids)
        if num_tokens > drafter.context_tokens:
            raise OutOfCache(
                f"{num_tokens} tokens exceed draft context of {drafter.context_tokens}"
            )


def check_truncation(drafter: Drafter, slot: int, num_tokens: int) -> None:
    """Assert that a truncation shortens the slot or leaves it as it is."""
    num_held = drafter.num_tokens(slot)
    assert 0 <= num_tokens <= num_held, f"cannot truncate {num_held} tokens to {num_tokens}"
