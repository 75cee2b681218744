"""What an operator wants made, and who is told how it goes. Pure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from verifier.finetune.recipe.prompt_files import Prompt
from verifier.finetune.recipe.recipe import Recipe

Clock = Callable[[], float]  # in seconds, monotonic


class DraftOrder(msgspec.Struct, frozen=True):
    """One draft to be made."""

    target: Path
    out: Path
    recipe: Recipe
    device: str = "auto"
    prompts: tuple[Prompt, ...] = ()
    held_out: tuple[Prompt, ...] = ()
    held_out_tokens: int = 128
    num_questions: int = 16_384  # that the target asks itself
    draft: Path | None = None  # a draft that is there, to be aligned; None: a new one
    keeps_twin: bool = False  # an 8-bit file beside one of 4 bits

    @property
    def work_dir(self) -> Path:
        """For what an interrupted run goes on from."""
        return self.out.with_name(f"{self.out.stem}.work")

    @property
    def texts_path(self) -> Path:
        """Where the held-out texts go."""
        return self.out.with_suffix(".texts")

    @property
    def twin_path(self) -> Path:
        """Where the 8-bit file of the same weights goes."""
        return self.out.with_name(f"{self.out.stem}-q8_0.gguf")


class Tell(Protocol):
    """Shows a person how it goes."""

    def stage(self, title: str) -> None:
        """Another stage begins."""
        ...

    def advance(self, fraction: float) -> None:
        """How much of it is done."""
        ...

    def say(self, sentence: str) -> None:
        """Something worth a line."""
        ...
