"""What a target asks itself."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch

from tests.support.models.distilled_drafts import Told, tiny_order
from verifier.finetune.llama.gguf_target import read_target
from verifier.finetune.target_texts import TargetTexts
from verifier.finetune.texts.target_tokenizer import TargetTokenizer


def test_half_of_its_questions_begin_as_the_order_says(tmp_path: Path) -> None:
    order = msgspec.structs.replace(
        tiny_order(tmp_path, begun=("why", "one"), slots=64), num_questions=192
    )
    order.work_dir.mkdir()
    device = torch.device("cpu")
    texts = TargetTexts(order, read_target(order.target), device, Told(), lambda: 0.0)
    torch.manual_seed(0)
    asked = [p.token_ids for p in texts.prompts().learned if p.domain == "self"]
    tokenizer = TargetTokenizer(order.target)
    counts = {}
    for words in order.recipe.begun:
        ids = tuple(tokenizer.encode_text(words, adds_special=False))
        counts[words] = sum(_has(prompt, ids) for prompt in asked)
    assert len(asked) > 20
    assert min(counts.values()) > len(asked) / 8
    assert sum(counts.values()) < 3 * len(asked) / 4


def test_long_prompts_beside_the_others_reach_far_back(tmp_path: Path) -> None:
    order = msgspec.structs.replace(tiny_order(tmp_path, long_prompts=5), num_questions=0)
    order.work_dir.mkdir()
    device = torch.device("cpu")
    texts = TargetTexts(order, read_target(order.target), device, Told(), lambda: 0.0)
    prompts = texts.prompts().learned
    made = [prompt.token_ids for prompt in prompts if prompt.domain == "long"]
    given = [prompt.token_ids for prompt in prompts if prompt.domain != "long"]
    assert 5 == len(made)
    for prompt in made:
        assert order.recipe.prompt_tokens / 2 <= len(prompt) <= order.recipe.prompt_tokens
        assert prompt[0] == given[0][0]
        assert prompt[-1] == given[0][-1]


def _has(prompt: tuple[int, ...], words: tuple[int, ...]) -> bool:
    return any(prompt[at : at + len(words)] == words for at in range(4))
