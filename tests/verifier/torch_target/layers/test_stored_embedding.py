"""An embedding without its weight gives the same rows, whatever its class makes of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.support.models.tiny_models import VOCAB_SIZE, tiny_gemma3, tiny_llama
from verifier.torch_target.layers.stored_embedding import can_store, store_embedding

_TOKEN_IDS = torch.tensor([[5, 0, 96, 5, 17]])


def rows_of(weight: Tensor) -> Callable[[Tensor], Tensor]:
    kept = weight.detach().clone()
    return lambda token_ids: kept[token_ids]


@pytest.mark.parametrize("make", [tiny_llama, tiny_gemma3], ids=["llama", "scaled"])
def test_the_logits_stay_and_the_weight_goes(make: Callable[[], PreTrainedModel]) -> None:
    model = make()
    embedding = model.get_input_embeddings()
    before = model(_TOKEN_IDS).logits
    assert store_embedding(embedding, rows_of(embedding.weight))
    assert [] == list(embedding.parameters())
    assert torch.equal(before, model(_TOKEN_IDS).logits)
    assert embedding.weight.numel() <= _TOKEN_IDS.numel() * model.config.hidden_size


def test_the_padding_id_is_a_row_as_any_other() -> None:
    embedding = torch.nn.Embedding(VOCAB_SIZE, 4, padding_idx=96)
    before = embedding(_TOKEN_IDS)
    assert store_embedding(embedding, rows_of(embedding.weight))
    assert torch.equal(before, embedding(_TOKEN_IDS))


def test_rows_of_another_dtype_are_widened() -> None:
    embedding = torch.nn.Embedding(VOCAB_SIZE, 4)
    with torch.no_grad():
        embedding.weight.copy_(embedding.weight.bfloat16())
    stored = embedding.weight.detach().bfloat16()
    assert store_embedding(embedding, lambda token_ids: stored[token_ids])
    assert torch.float32 == embedding(_TOKEN_IDS).dtype


@pytest.mark.parametrize("wrong", ["other", "fewer"])
def test_rows_that_are_not_its_own_are_refused(wrong: str) -> None:
    embedding = torch.nn.Embedding(VOCAB_SIZE, 4)
    weight = embedding.weight.detach()
    rows = rows_of(weight.flip(0) if wrong == "other" else weight[:90])
    before = embedding(_TOKEN_IDS)
    assert not store_embedding(embedding, rows)
    assert torch.equal(before, embedding(_TOKEN_IDS))


def test_only_a_weight_that_the_head_shares_is_worth_it() -> None:
    assert can_store(tiny_gemma3())
    assert not can_store(tiny_llama())
