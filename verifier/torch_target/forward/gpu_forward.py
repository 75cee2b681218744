"""A round on a GPU: our kernels, replayed from CUDA graphs where that pays.

The only module of its floor that may import Triton, directly or not: import it where a GPU is.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from verifier.target.round import DraftCheck, Round
from verifier.torch_target.forward.attention import model_logits, use_round_attention
from verifier.torch_target.forward.block_cache import BlockCache, CacheShape
from verifier.torch_target.forward.cuda_graphs import Agree, GraphRunner
from verifier.torch_target.forward.device_forward import Sampled
from verifier.torch_target.forward.paged_attention import PagedAttention
from verifier.torch_target.forward.round_inputs import RoundInputs
from verifier.torch_target.forward.weights import move_weights
from verifier.torch_target.kernels.head_shape import HeadShape, attention_windows
from verifier.torch_target.kernels.paged_layout import PagedLayout, positions_of
from verifier.torch_target.layers.fused_layers import fuse_layers
from verifier.torch_target.layers.invariant_layers import make_invariant
from verifier.torch_target.sampling.gpu_verification import verify_rows_on_gpu


class GpuForward:
    """Implements `DeviceForward`."""

    keeps_its_thread = False

    def __init__(
        self,
        model: Any,  # a transformers causal language model; its classes are not annotated
        cache_shape: CacheShape,
        device: torch.device,
        dtype: torch.dtype,
        *,
        is_batch_invariant: bool,
        agree: Agree | None = None,
    ) -> None:
        """Take a model over.

        `is_batch_invariant`: an item's logits do not depend on the rest of the round. `agree`: see
        `GraphRunner`.
        """
        config = model.config.get_text_config()
        self._heads = HeadShape.of(config)
        self._windows = attention_windows(config)
        self._block_tokens = cache_shape.block_tokens
        self._device = device
        self._num_cores: int | None = None  # None: keys are cut at fixed places
        if not is_batch_invariant:
            self._num_cores = torch.cuda.get_device_properties(device).multi_processor_count
        self._cache = BlockCache(cache_shape.num_slots)
        self._model = model.eval()
        move_weights(self._model, device, dtype)
        use_round_attention(self._model)
        with self.on_device():
            if is_batch_invariant:
                make_invariant(self._model)
            elif dtype in (torch.bfloat16, torch.float16):
                fuse_layers(self._model)
        self._graphs = GraphRunner(
            self._forward,
            device,
            spare_slot=cache_shape.spare_slot,
            max_blocks=cache_shape.max_stream_blocks,
            agree=agree,
        )

    @property
    def cached_layers(self) -> frozenset[int]:
        return self._cache.layers

    def on_device(self) -> AbstractContextManager[object]:
        return torch.cuda.device(self._device)

    def logits(self, round_: Round) -> Tensor:
        positions = positions_of(round_.items)
        layout = PagedLayout.of(
            round_.items, positions, self._block_tokens, self._heads, self._windows, self._num_cores
        )
        inputs = RoundInputs.of(round_, positions)
        if not self._cache.layers:  # it is allocated in this round, which no graph may do
            return self._forward(inputs.to(self._device), layout.to(self._device))
        return self._graphs.logits(inputs, layout)

    def sample(self, logits: Tensor, draft_checks: Sequence[DraftCheck]) -> Sampled:
        return Sampled(*verify_rows_on_gpu(logits, draft_checks))

    def _forward(self, inputs: RoundInputs, layout: PagedLayout) -> Tensor:
        return model_logits(self._model, inputs, PagedAttention(layout, self._cache))
