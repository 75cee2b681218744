"""The target as a transformers causal language model on a CPU or a GPU.

One forward pass over the packed tokens of all streams, logits for the rows that are checked,
sampling. It must never know what a stream is: everything about one comes with the round.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.errors import ModelError
from shared.speculation.sampling import GREEDY
from verifier.target.round import DraftCheck, ItemOutcome, Round, RoundItem, RoundOutcome
from verifier.torch_target.forward.attention import ATTENTION_NAME
from verifier.torch_target.forward.block_cache import BlockCache
from verifier.torch_target.forward.cuda_graphs import GraphRunner
from verifier.torch_target.forward.ragged_layout import RaggedLayout
from verifier.torch_target.forward.round_inputs import RoundInputs
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.kernels.paged_layout import PagedLayout, positions_of
from verifier.torch_target.sampling.verification import verify_rows


class TorchTarget:
    """`TargetModel` over a model of transformers and a block cache of its own."""

    def __init__(
        self,
        model: Any,  # a transformers causal language model; its classes are not annotated
        *,
        device: torch.device,
        dtype: torch.dtype,
        num_blocks: int,
        block_tokens: int,
        context_tokens: int,
        model_name: str,
        is_batch_invariant: bool = False,
    ) -> None:
        """Take a model over.

        `is_batch_invariant`: on a GPU, an item's logits do not depend on the rest of the round.
        The architecture must be one that `check_architecture` of `loading` accepts.
        """
        self.model_name = model_name
        self.num_blocks = num_blocks
        self.block_tokens = block_tokens
        self.context_tokens = context_tokens
        config = model.config.get_text_config()
        self.vocab_size = int(config.vocab_size)
        self._heads = HeadShape.of(config)
        self._windows = list({None, getattr(config, "sliding_window", None) or None})
        spare_slot = num_blocks * block_tokens
        self._cache = BlockCache(spare_slot + 1)
        self._device = device
        self._num_cores: int | None = None  # None: keys are cut at fixed places
        if device.type == "cuda" and not is_batch_invariant:
            self._num_cores = torch.cuda.get_device_properties(device).multi_processor_count
        self._like = torch.empty(0, device=device, dtype=dtype)
        self._model = model.to(device=device, dtype=dtype).eval()
        self._model.set_attn_implementation(ATTENTION_NAME)
        if device.type == "cuda":
            with self._on_device():
                _speed_up(self._model, dtype, is_batch_invariant)
        self._graphs: GraphRunner | None = None
        self._read_one_token(config.num_hidden_layers)
        if device.type == "cuda":
            self._graphs = GraphRunner(
                self._forward,
                device,
                spare_slot=spare_slot,
                max_blocks=-(-context_tokens // block_tokens),
            )

    def run(self, round_: Round) -> RoundOutcome:
        """Run one round."""
        started_at = time.perf_counter()
        checks = [item.draft_check for item in round_.items if item.draft_check is not None]
        with torch.inference_mode(), self._on_device():
            logits = self.logits(round_)
            made, sampling_seconds = self._sample(logits, checks)
        outcomes = iter(made)
        items = tuple(next(outcomes) if item.draft_check else None for item in round_.items)
        seconds = time.perf_counter() - started_at
        return RoundOutcome(items, seconds - sampling_seconds, sampling_seconds)

    def logits(self, round_: Round) -> Tensor:
        """Read the round's tokens; logits [num_rows, vocab_size] of the rows that it checks."""
        positions = positions_of(round_.items)
        inputs = RoundInputs.of(round_, positions, self._layout(round_.items, positions))
        if self._graphs is not None:
            return self._graphs.logits(inputs)
        return self._forward(inputs.to(self._device))

    def _forward(self, inputs: RoundInputs) -> Tensor:
        output = self._model(
            input_ids=inputs.token_ids[None],
            position_ids=inputs.positions[None],
            use_cache=False,
            logits_to_keep=inputs.rows,
            ragged_layout=inputs.layout,
            block_cache=self._cache,
        )
        logits: Tensor = output.logits[0]
        return logits

    def _on_device(self) -> AbstractContextManager[object]:
        """Kernels and events go to the current GPU, which is a thread's own matter."""
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()

    def _sample(
        self, logits: Tensor, checks: Sequence[DraftCheck]
    ) -> tuple[list[ItemOutcome], float]:
        """Outcomes, and the seconds that they took once the logits were there."""
        if self._device.type == "cuda":
            # Triton is there only beside a CUDA build of torch.
            from verifier.torch_target.sampling.gpu_verification import verify_rows_on_gpu

            return verify_rows_on_gpu(logits, checks)
        started_at = time.perf_counter()
        outcomes = verify_rows(logits, checks)
        return outcomes, time.perf_counter() - started_at

    def _layout(
        self, items: Sequence[RoundItem], positions: NDArray[np.int64]
    ) -> RaggedLayout | PagedLayout:
        if self._device.type != "cuda":
            return RaggedLayout.of(items, self.block_tokens, self._heads, self._windows, self._like)
        return PagedLayout.of(
            items, positions, self.block_tokens, self._heads, self._windows, self._num_cores
        )

    def _read_one_token(self, num_layers: int) -> None:
        """A first round: the cache is allocated, and an unsuitable architecture shows itself."""
        check = DraftCheck((), (), "coupled", GREEDY, seed=0, position=0, draws_bonus=True)
        self.run(Round((RoundItem(0, (0,), 0, (0,), check),)))
        if self._cache.layers != frozenset(range(num_layers)):
            raise ModelError(
                f"only {len(self._cache.layers)} of {num_layers} layers of {self.model_name} "
                "keep keys and values with transformers' attention interface"
            )


def _speed_up(model: Any, dtype: torch.dtype, is_batch_invariant: bool) -> None:
    # Triton is there only beside a CUDA build of torch.
    if is_batch_invariant:
        from verifier.torch_target.layers.invariant_layers import make_invariant

        make_invariant(model)
    elif dtype in (torch.bfloat16, torch.float16):
        from verifier.torch_target.layers.fused_layers import fuse_layers

        fuse_layers(model)
