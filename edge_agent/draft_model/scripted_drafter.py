"""A draft model by script, for tests and load."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.draft_model.drafter import DraftInterrupted, Forward, check_batch, check_truncation
from shared.speculation.scripted_model import ScriptedModel, scripted_token_bytes


class ScriptedDrafter:
    """A drafter whose logits are a function of the slot's tokens; exact, instant, without weights.

    `logits_of(tokens)` returns [vocab_size] for the token after `tokens`. `seconds_per_token` makes
    each appended token take that long, as on a board; an interruption ends the wait.
    """

    def __init__(
        self,
        logits_of: Callable[[tuple[int, ...]], NDArray[np.float32]],
        token_bytes: Sequence[bytes],
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
        num_slots=num_slots,
        context_tokens=context_tokens,
        model_name=f"scripted-{model.vocab_size}-seed-{model.seed}-disagreement-{model.disagreement}",
        seconds_per_token=seconds_per_token,
    )
