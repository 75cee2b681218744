"""The target as a transformers causal language model on a CPU or a GPU.

One forward pass over the packed tokens of all streams, logits for the rows that are checked,
sampling. It must never know what a stream is: everything about one comes with the round.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import torch
from torch import Tensor

from shared.errors import ModelError
from shared.speculation.logit_processors import LogitProcessors
from shared.speculation.sampling import GREEDY
from verifier.target.masked_check import begin_masks
from verifier.target.processing import Processing
from verifier.target.round import DraftCheck, Round, RoundItem, RoundOutcome, with_prompt
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.forward.device_forward import DeviceForward
from verifier.torch_target.forward.failures import named_failures
from verifier.torch_target.forward.leading_forward import LeadingForward
from verifier.torch_target.sampling.masking import mask_rows
from verifier.torch_target.sampling.prompt_logprobs import score_prompts
from verifier.torch_target.sampling.token_logprobs import KeptRows


class TorchTarget:
    """`TargetModel` over a model of transformers on its device."""

    def __init__(
        self,
        forward: DeviceForward,
        config: Any,  # the model's text configuration
        cache_shape: CacheShape,
        model_name: str,
    ) -> None:
        """Run a first round.

        The architecture must be one that `check_architecture` of `loading` accepts.

        Raises:
            ModelError: not all layers keep keys and values in our cache.
        """
        self.model_name = model_name
        self.num_blocks = cache_shape.num_blocks
        self.block_tokens = cache_shape.block_tokens
        self.context_tokens = cache_shape.context_tokens
        self.vocab_size = int(config.vocab_size)
        self._forward = forward
        self._read_one_token(config.num_hidden_layers)

    def run(self, round_: Round) -> RoundOutcome:
        """Run one round."""
        started_at = time.perf_counter()
        checks = [item.draft_check for item in round_.items if item.draft_check is not None]
        if self._forward.keeps_its_thread:
            begin_masks(checks)
        with named_failures(), torch.inference_mode(), self._forward.on_device():
            logits = self._forward.logits(round_)
            num_checked = sum([check.num_logit_rows for check in checks])
            checked = logits[:num_checked]
            kept = KeptRows(checked, checks)
            rows = mask_rows(checked, checks)
            sampled = self._forward.sample(rows.logits, rows.checks)
            drawn = iter(sampled.outcomes)
            of_all = [next(drawn) if known is None else known for known in rows.outcomes]
            outcomes = iter(kept.told(of_all))
            scored = score_prompts(logits[num_checked:], round_.items)
        items = [next(outcomes) if item.draft_check else None for item in round_.items]
        for number, prompt_logprobs in scored.of_items.items():
            items[number] = with_prompt(items[number], prompt_logprobs)
        seconds = time.perf_counter() - started_at - scored.seconds
        row_seconds: tuple[float | None, ...] = ()
        if sampled.row_seconds:
            of_drawn = iter(sampled.row_seconds)
            of_checks = iter([next(of_drawn) if known is None else None for known in rows.outcomes])
            row_seconds = tuple(next(of_checks) if i.draft_check else None for i in round_.items)
        forward_seconds = seconds - sampled.seconds
        return RoundOutcome(
            tuple(items),
            forward_seconds,
            sampled.seconds,
            row_seconds=row_seconds,
            scoring_seconds=scored.seconds,
        )

    def logits(self, round_: Round) -> Tensor:
        """Read the round's tokens; logits [num_rows, vocab_size], of checks before prompt rows."""
        with torch.inference_mode(), self._forward.on_device():
            return self._forward.logits(round_)

    def lead(self, tell: Callable[[Round], None]) -> None:
        """From now on give each round to the other ranks, which have parts of the same target."""
        self._forward = LeadingForward(self._forward, tell)

    def follow(self, round_: Round) -> None:
        """Do another rank's part in a round that rank 0 runs, to its end."""
        with torch.inference_mode(), self._forward.on_device():
            logits = self._forward.logits(round_)
            if logits.is_cuda:  # the next round's numbers go where this one's are read
                torch.cuda.synchronize()

    def _read_one_token(self, num_layers: int) -> None:
        """A first round: the cache is allocated, and an unsuitable architecture shows itself."""
        check = DraftCheck((), (), "coupled", GREEDY, seed=0, position=0, draws_bonus=True)
        self.run(Round((RoundItem(0, (0,), 0, (0,), check),)))
        # Processed rows are float32: on a GPU that is another kernel, which takes long to compile.
        processing = Processing.of(LogitProcessors(logit_bias=((0, 1.0),)), frozenset())
        processed = msgspec.structs.replace(check, processing=processing)
        self.run(Round((RoundItem(0, (0,), 0, (0,), processed),)))
        cached_layers = self._forward.cached_layers
        if cached_layers != frozenset(range(num_layers)):
            raise ModelError(
                f"only {len(cached_layers)} of {num_layers} layers of {self.model_name} "
                "keep keys and values with transformers' attention interface"
            )
