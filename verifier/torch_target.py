"""A transformers causal LM as the target: packs a round, runs it, samples what comes out.

The model's weights stay as they are; its attention is ours (`verifier.attention`).  The cache is
addressed by the blocks of each item, so this object remembers nothing about streams.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from verifier.attention import LayerCache, make_layout
from verifier.target import Round, RoundItem, RoundOutcome
from verifier.torch_sampling import num_logit_rows, verify_rows


class TorchTarget:
    """Implements `verifier.target.TargetModel`."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        model_name: str,
        num_blocks: int,
        block_tokens: int,
        context_tokens: int,
    ) -> None:
        self.model_name = model_name
        self.num_blocks = num_blocks
        self.block_tokens = block_tokens
        config = model.config.get_text_config()
        self.vocab_size = int(config.vocab_size)
        self.context_tokens = min(context_tokens, int(config.max_position_embeddings))
        self._model = model
        model.train(False)
        self._device = model.device
        self._caches = [
            _layer_cache(model, num_blocks * block_tokens) for _ in range(config.num_hidden_layers)
        ]

    def verify(self, round_: Round) -> RoundOutcome:
        """Run one round; see `verifier.target.TargetModel.verify`."""
        started_at = time.monotonic()
        with torch.inference_mode():
            logits = self._forward(round_.items)
            verifies = [item.verify for item in round_.items if item.verify is not None]
            forwarded_at = time.monotonic()
            outcomes = iter(verify_rows(logits, verifies) if verifies else [])
        return RoundOutcome(
            items=tuple(next(outcomes) if item.verify else None for item in round_.items),
            forward_seconds=forwarded_at - started_at,
            sampling_seconds=time.monotonic() - forwarded_at,
        )

    def _forward(self, items: Sequence[RoundItem]) -> Tensor:
        """Logits [num_rows, vocab_size] of the rows that the items' checks need, in order."""
        layout = make_layout(items, self._caches, self.block_tokens)
        token_ids = [token_id for item in items for token_id in item.token_ids]
        positions = [
            position
            for item in items
            for position in range(item.num_cached_tokens, item.context_tokens)
        ]
        output = self._model(
            input_ids=self._row(token_ids),
            position_ids=self._row(positions),
            logits_to_keep=self._row(_logit_rows(items))[0],
            use_cache=False,
            ragged_layout=layout,
        )
        logits: Tensor = output.logits[0]
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # or the forward's time would be the sampling's
        return logits

    def _row(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor([numbers], dtype=torch.int64, device=self._device)


def _logit_rows(items: Sequence[RoundItem]) -> list[int]:
    rows: list[int] = []
    end = 0
    for item in items:
        end += len(item.token_ids)
        if item.verify is not None:
            # The row before the first draft token decides about that token.
            first = end - len(item.verify.draft_token_ids) - 1
            rows.extend(range(first, first + num_logit_rows(item.verify)))
    return rows


def _layer_cache(model: PreTrainedModel, num_slots: int) -> LayerCache:
    config = model.config.get_text_config()
    head_size = (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    shape = (config.num_key_value_heads, num_slots, head_size)
    keys, values = (torch.zeros(shape, dtype=model.dtype, device=model.device) for _ in range(2))
    return LayerCache(keys, values)
