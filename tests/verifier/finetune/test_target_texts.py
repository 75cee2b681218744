"""What a target asks itself."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from tests.support.models.distilled_drafts import Told, tiny_order
from verifier.finetune.llama.gguf_target import read_target
from verifier.finetune.order import DraftOrder
from verifier.finetune.target_texts import TargetTexts
from verifier.finetune.texts.chat_frame import chat_frame
from verifier.finetune.texts.target_tokenizer import TargetTokenizer


def texts_of(order: DraftOrder) -> TargetTexts:
    order.work_dir.mkdir()
    target = read_target(order.target)
    return TargetTexts(order, target, torch.device("cpu"), Told(), lambda: 0.0)


def test_questions_that_are_begun_for_it_begin_so(tmp_path: Path) -> None:
    order = msgspec.structs.replace(tiny_order(tmp_path, slots=64), num_questions=192)
    torch.manual_seed(0)
    asked = texts_of(order).ask(("why", "one"))
    assert len(asked) > 3
    tokenizer = TargetTokenizer(order.target)
    begun = [chat_frame(tokenizer).before + _words(tokenizer, start) for start in ("why", "one")]
    for prompt in asked:
        assert any(prompt[: len(start)] == start for start in begun)


def test_half_of_its_questions_begin_as_the_recipe_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(TargetTexts, "ask", lambda self, starts: asked.extend(starts) or [])
    texts_of(tiny_order(tmp_path, begun=("why", "one"))).prompts()
    assert ["", "", "why", "one"] == asked


def test_long_prompts_beside_the_others_reach_far_back(tmp_path: Path) -> None:
    order = msgspec.structs.replace(tiny_order(tmp_path, long_prompts=5), num_questions=0)
    prompts = texts_of(order).prompts().learned
    made = [prompt.token_ids for prompt in prompts if prompt.domain == "long"]
    given = [prompt.token_ids for prompt in prompts if prompt.domain != "long"]
    assert 5 == len(made)
    for prompt in made:
        assert order.recipe.prompt_tokens / 2 <= len(prompt) <= order.recipe.prompt_tokens
        assert prompt[0] == given[0][0]
        assert prompt[-1] == given[0][-1]


def _words(tokenizer: TargetTokenizer, start: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode_text(start, adds_special=False))
