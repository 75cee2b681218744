"""What a draft model can do for the agent, and a scripted one for tests and load.

A drafter holds `num_slots` token sequences and computes logits after them; one thread uses it.
It never samples, never knows about streams or the verifier, and never touches the network.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import GoodspeedError, ModelError, OutOfCache
from shared.scripted_model import SCRIPTED_END_ID, ScriptedModel, scripted_token_bytes


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

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids that print nothing."""

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


class ScriptedDrafter:
    """A drafter whose logits are a function of the slot's tokens; exact, instant, without weights.

    `logits_of(tokens)` returns [vocab_size] for the token after `tokens`. `seconds_per_token` makes
    each appended token take that long, as on a board; an interruption ends the wait.
    """

    def __init__(
        self,
        logits_of: Callable[[tuple[int, ...]], NDArray[np.float32]],
        token_bytes: Sequence[bytes],
        special_ids: frozenset[int] = frozenset(),
        num_slots: int = 4,
        context_tokens: int = 2048,
        model_name: str = "scripted",
        seconds_per_token: float = 0.0,
    ) -> None:
        self.model_name = model_name
        self.vocab_size = len(token_bytes)
        self.context_tokens = context_tokens
        self.num_slots = num_slots
        self.token_bytes = token_bytes
        self.special_ids = special_ids
        self.seconds_per_token = seconds_per_token
        self._logits_of = logits_of
        self._slots: list[tuple[int, ...]] = [()] * num_slots
        self._interrupted = threading.Event()

    def forward(self, batch: Sequence[Forward]) -> list[NDArray[np.float32] | None]:
        check_batch(self, batch)
        self._interrupted.clear()
        appended: dict[int, tuple[int, ...]] = {}
        results: list[NDArray[np.float32] | None] = []
        for item in batch:
            tokens = self._slots[item.slot] + item.token_ids
            appended[item.slot] = tokens
            self._interrupted.wait(self.seconds_per_token * len(item.token_ids))
            results.append(self._logits_of(tokens).copy() if item.wants_logits else None)
            if self._interrupted.is_set():
                raise DraftInterrupted
        for slot, tokens in appended.items():
            self._slots[slot] = tokens
        return results

    def num_tokens(self, slot: int) -> int:
        return len(self._slots[slot])

    def truncate(self, slot: int, num_tokens: int) -> int:
        check_truncation(self, slot, num_tokens)
        self._slots[slot] = self._slots[slot][:num_tokens]
        return num_tokens

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        self._slots = [()] * self.num_slots


def scripted_drafter(
    model: ScriptedModel,
    num_slots: int = 4,
    context_tokens: int = 2048,
    seconds_per_token: float = 0.0,
) -> ScriptedDrafter:
    """Build a drafter from the scripted language model, with the scripted vocabulary.

    Its natural target is a `ScriptedModel` that differs in nothing but `disagreement`, which is 0.
    """
    return ScriptedDrafter(
        model.logits,
        token_bytes=scripted_token_bytes(model.vocab_size),
        special_ids=frozenset({SCRIPTED_END_ID}),
        num_slots=num_slots,
        context_tokens=context_tokens,
        model_name=f"scripted-{model.vocab_size}-seed-{model.seed}-disagreement-{model.disagreement}",
        seconds_per_token=seconds_per_token,
    )


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
        worst = min(min(item.token_ids), drafter.vocab_size - 1 - max(item.token_ids))
        if worst < 0:
            raise ModelError(f"a token id is outside the draft vocabulary of {drafter.vocab_size}")
        wanted = drafter.num_tokens(item.slot) + len(item.token_ids)
        if wanted > drafter.context_tokens:
            raise OutOfCache(f"{wanted} tokens exceed draft context of {drafter.context_tokens}")


def check_truncation(drafter: Drafter, slot: int, num_tokens: int) -> None:
    """Assert that a truncation shortens the slot or leaves it as it is."""
    held = drafter.num_tokens(slot)
    assert 0 <= num_tokens <= held, f"cannot truncate {held} tokens to {num_tokens}"
