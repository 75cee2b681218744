"""Greedy float32 text of a target that is split over ranks is that of the whole one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from shared.errors import ModelError
from shared.speculation.sampling import GREEDY
from tests.support.models.architecture_texts import prompts_of
from tests.support.models.architectures import ARCHITECTURES, Architecture
from tests.support.models.drafted_streams import DraftedStreams
from tests.support.models.rank_program import RankedText, texts_of_ranks
from tests.support.models.target_loading import load_on_cpu
from tests.support.models.tiny_checkpoint import tiny_config, tiny_model, write_checkpoint
from tests.support.models.tiny_gguf import write_tiny_llama
from tests.support.models.tiny_models import tiny_llama
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.loading.model_reading import outline
from verifier.torch_target.parallel.split import (
    Split,
    check_can_split,
    check_parts,
    rank_config,
)

NUM_TOKENS = 12
SETTINGS = {"context_tokens": 128, "kv_cache_tokens": 2048, "dtype": "float32"}


def wanted_of(path: Path, num_ranks: int, prompts: list[list[int]], **more: Any) -> RankedText:
    settings = {**SETTINGS, **more}
    target = load_on_cpu(path, max_round_tokens=128, **settings).target
    outputs = DraftedStreams(target, prompts, [[]] * len(prompts), GREEDY, NUM_TOKENS).run(0)
    return RankedText(str(path), num_ranks, prompts, outputs, NUM_TOKENS, settings)


def can_split(architecture: Architecture) -> bool:
    config = tiny_config(architecture)
    whole = outline(config, torch.float32)
    try:
        check_can_split(config, whole, 2)
        part = outline(rank_config(config, 2), torch.float32)
        check_parts(Split(0, 2, HeadShape.of(config)), whole, part)
    except ModelError:
        return False
    return True


def test_text_of_two_ranks_is_that_of_one(tmp_path: Path) -> None:
    split = [one for one in ARCHITECTURES if not one.refusal and can_split(one)]
    assert {"Llama", "Llama, one key head", "Mistral", "Qwen2", "Qwen3", "Gemma 2", "Gemma 3"} <= {
        one.name for one in split
    }
    wanted = []
    for number, architecture in enumerate(split):
        path = tmp_path / str(number)
        write_checkpoint(tiny_model(architecture), path)
        wanted.append(wanted_of(path, 2, prompts_of(architecture)))
    found = texts_of_ranks(wanted)
    differing = [
        architecture.name
        for architecture, one, texts in zip(split, wanted, found, strict=True)
        if texts != [one.outputs, one.outputs]
    ]
    assert [] == differing


def test_more_ranks_than_key_heads_and_odd_vocabularies_and_gguf_files(tmp_path: Path) -> None:
    write_checkpoint(tiny_llama(), tmp_path / "llama")  # 2 key heads, 97 tokens
    write_tiny_llama(tmp_path / "tiny.gguf", tensors_per_part=8)
    prompts = [[5, 9, 40, 41], [7] * 30]
    wanted = [
        wanted_of(tmp_path / "llama", 4, prompts),
        wanted_of(next(tmp_path.glob("tiny-00001-*.gguf")), 2, prompts),
    ]
    for one, texts in zip(wanted, texts_of_ranks(wanted), strict=True):
        assert [one.outputs] * one.num_ranks == texts


def test_parts_may_be_quantised(tmp_path: Path) -> None:
    """Each rank rounds its own part, so the text is the same at all ranks, and no other's."""
    pytest.importorskip("torchao")
    write_checkpoint(tiny_llama(head_dim=128), tmp_path)
    settings = {**SETTINGS, "quantisation": "int8"}
    wanted = RankedText(str(tmp_path), 2, [[5, 9, 40, 41]], [[]], NUM_TOKENS, settings)
    first, second = texts_of_ranks([wanted])[0]
    assert first == second
    assert NUM_TOKENS == len(first[0])
