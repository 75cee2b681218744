"""Every weight of a model is at some rank, none at two but where all have it; or it is refused."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from shared.errors import ModelError
from tests.support.models.architectures import ARCHITECTURES
from tests.support.models.tiny_checkpoint import tiny_config
from tests.support.models.tiny_models import tiny_llama
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.loading.model_reading import outline
from verifier.torch_target.parallel.split import (
    Cut,
    Split,
    check_can_split,
    check_parts,
    rank_config,
)

LAYER = "model.layers.0"


@given(size=st.integers(0, 200), num_parts=st.integers(1, 8))
def test_parts_follow_each_other_and_are_all(size: int, num_parts: int) -> None:
    bounds = [Cut(0, num_parts, index).bounds(size) for index in range(num_parts)]
    assert list(range(size)) == [place for start, end in bounds for place in range(start, end)]


@given(
    num_ranks=st.sampled_from([1, 2, 4, 8]),
    num_kv_heads=st.sampled_from([1, 2, 4, 8]),
    num_members=st.sampled_from([1, 2, 4]),
)
def test_a_rank_has_the_key_heads_of_its_queries(
    num_ranks: int, num_kv_heads: int, num_members: int
) -> None:
    num_heads = num_kv_heads * num_members
    if num_heads % num_ranks:
        return
    for rank in range(num_ranks):
        split = Split(rank, num_ranks, HeadShape(num_heads, num_kv_heads))
        query = split.cut_of(f"{LAYER}.self_attn.q_proj.weight")
        key = split.cut_of(f"{LAYER}.self_attn.k_proj.weight")
        assert query is not None
        assert key is not None
        of_queries = {head // num_members for head in range(*query.bounds(num_heads))}
        assert of_queries == set(range(*key.bounds(num_kv_heads)))


def test_what_is_summed_is_cut_by_its_inputs_and_its_bias_is_one_ranks() -> None:
    splits = [Split(rank, 2, HeadShape(4, 2)) for rank in range(2)]
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        cuts = [split.cut_of(f"{LAYER}.{name}.weight") for split in splits]
        assert [Cut(1, 2, 0), Cut(1, 2, 1)] == cuts
        assert splits[1].cut_of(f"{LAYER}.{name}.bias") is None
        assert [False, True] == [split.is_other_ranks(f"{LAYER}.{name}.bias") for split in splits]
    assert splits[1].cut_of(f"{LAYER}.input_layernorm.weight") is None
    assert not splits[1].is_other_ranks(f"{LAYER}.self_attn.q_proj.bias")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Mixtral", "its layers are not one attention and one gated perceptron each"),
        ("gpt-oss", "its layers are not one attention and one gated perceptron each"),
        ("Phi-3", "its layers are not one attention and one gated perceptron each"),
        ("GPT-2", "its layers are not one attention and one gated perceptron each"),
    ],
)
def test_what_cannot_be_divided_is_said(name: str, reason: str) -> None:
    architecture = next(one for one in ARCHITECTURES if one.name == name)
    config = tiny_config(architecture)
    sentence = f"a target of type {config.model_type} cannot be split over 2 GPUs"
    with pytest.raises(ModelError, match=re.escape(sentence) + f".*{reason}"):
        check_can_split(config, outline(config, torch.float32), 2)


def test_heads_that_do_not_divide_are_said_with_what_would() -> None:
    config = AutoConfig.for_model(
        "llama",
        hidden_size=72,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=8,
    )
    plan = outline(config, torch.float32)
    with pytest.raises(ModelError, match=r"its 9 query and 3 key/value heads .* are 1, 3"):
        check_can_split(config, plan, 2)
    check_can_split(config, plan, 3)


def test_a_norm_over_all_heads_cannot_be_divided() -> None:
    architecture = next(one for one in ARCHITECTURES if one.name == "OLMo 2")
    config = tiny_config(architecture)
    whole = outline(config, torch.float32)
    part = outline(rank_config(config, 2), torch.float32)
    with pytest.raises(ModelError, match=r"its model\.layers\.0\.self_attn\.q_norm\.weight"):
        check_parts(Split(0, 2, HeadShape.of(config)), whole, part)


def test_a_ranks_model_is_a_smaller_one_with_the_same_heads() -> None:
    config = tiny_llama().config
    own = rank_config(config, 2)
    assert (2, 1, 8, 24) == (
        own.num_attention_heads,
        own.num_key_value_heads,
        own.head_dim,
        own.intermediate_size,
    )
    assert (4, 2) == (config.num_attention_heads, config.num_key_value_heads)
    assert 1 == rank_config(config, 4).num_key_value_heads
