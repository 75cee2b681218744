"""A round on a CPU, by torch alone: packed products, one attention for each stream."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from verifier.target.round import DraftCheck, Round
from verifier.torch_target.forward.attention import model_logits, use_round_attention
from verifier.torch_target.forward.block_cache import BlockCache, CacheShape
from verifier.torch_target.forward.device_forward import Sampled
from verifier.torch_target.forward.ragged_attention import RaggedAttention
from verifier.torch_target.forward.ragged_layout import RaggedLayout
from verifier.torch_target.forward.round_inputs import RoundInputs
from verifier.torch_target.forward.weights import move_weights
from verifier.torch_target.kernels.head_shape import HeadShape, attention_windows
from verifier.torch_target.kernels.paged_layout import positions_of
from verifier.torch_target.layers.packed_linear import can_pack, pack_linears
from verifier.torch_target.sampling.verification import verify_and_time_rows


class CpuForward:
    """Implements `DeviceForward`."""

    keeps_its_thread = True

    def __init__(
        self,
        model: Any,  # a transformers causal language model; its classes are not annotated
        cache_shape: CacheShape,
        dtype: torch.dtype,
    ) -> None:
        """Take a model over."""
        config = model.config.get_text_config()
        self._heads = HeadShape.of(config)
        self._windows = attention_windows(config)
        self._block_tokens = cache_shape.block_tokens
        self._like = torch.empty(0, dtype=dtype)
        self._cache = BlockCache(cache_shape.num_slots)
        self._model = model.eval()
        move_weights(self._model, torch.device("cpu"), dtype)
        if can_pack(dtype):
            pack_linears(self._model)
        use_round_attention(self._model)

    @property
    def cached_layers(self) -> frozenset[int]:
        return self._cache.layers

    def on_device(self) -> AbstractContextManager[object]:
        return nullcontext()

    def logits(self, round_: Round) -> Tensor:
        layout = RaggedLayout.of(
            round_.items, self._block_tokens, self._heads, self._windows, self._like
        )
        inputs = RoundInputs.of(round_, positions_of(round_.items))
        return model_logits(self._model, inputs, RaggedAttention(layout, self._cache))

    def sample(self, logits: Tensor, draft_checks: Sequence[DraftCheck]) -> Sampled:
        started_at = time.perf_counter()
        outcomes, row_seconds = verify_and_time_rows(logits, draft_checks)
        return Sampled(outcomes, time.perf_counter() - started_at, row_seconds)
