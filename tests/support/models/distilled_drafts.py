"""A tiny target with a chat template, and orders for drafts of it that take no time."""

from __future__ import annotations

from pathlib import Path

from tests.support.models.tiny_gguf import write_tiny_llama
from verifier.finetune.order import DraftOrder
from verifier.finetune.recipe.draft_shape import DraftShape
from verifier.finetune.recipe.prompt_files import Prompt
from verifier.finetune.recipe.recipe import Recipe

TEMPLATE = "{% for turn in messages %}<tool>{{ turn['content'] }}<|im_end|>{% endfor %}"
TINY_SHAPE = DraftShape(hidden=32, layers=2, ffn=64, heads=2, kv_heads=1, head_size=16)
_PROMPTS = ("hello there", "what is it", "abc def", "one two three", "and so on", "why")


def write_chat_target(path: Path, seed: int = 0) -> Path:
    """A target whose template puts a user's words between two texts."""
    write_tiny_llama(path, seed, edit=lambda writer: writer.add_chat_template(TEMPLATE))
    return path


def tiny_order(directory: Path, **recipe: object) -> DraftOrder:
    """An order for a draft of such a target; times are those of a `TickingClock`."""
    fields = {
        "shape": TINY_SHAPE,
        "weights": "Q8_0",
        "minutes": 1.0,
        "slots": 8,
        "answer_tokens": 12,
        "prompt_tokens": 64,
        "step_tokens": 256,
        "temperatures": (1.0,),
    }
    return DraftOrder(
        target=write_chat_target(directory / "target.gguf"),
        out=directory / "draft.gguf",
        recipe=Recipe(**{**fields, **recipe}),  # type: ignore[arg-type]
        device="cpu",
        prompts=tuple(Prompt(text, "some") for text in _PROMPTS),
        held_out=(Prompt("held out", "first"), Prompt("and another", "second")),
        held_out_tokens=6,
        num_questions=8,
    )


class TickingClock:
    """Every look at it takes a second, so that what is bounded by time does the same each time."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 1.0
        return self.seconds


class Told:
    """Implements `verifier.finetune.order.Tell`: remembers what it was told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.sentences: list[str] = []

    def stage(self, title: str) -> None:
        self.stages.append(title)

    def advance(self, fraction: float) -> None:
        assert 0.0 <= fraction <= 1.0

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)
