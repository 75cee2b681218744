"""Tokens per second of transformers' own `generate` and `generate_batch`, greedy.

Prompts are read before the clock starts, and the first steps are left out: there code is compiled
and graphs are captured.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import torch
from transformers import PreTrainedModel
from transformers.generation import ContinuousBatchingConfig, GenerationConfig

FIRST_STEPS = 16  # at most; a quarter of a short run

# Of the free memory, for the cache of `generate_batch`; main memory is other programs', too.
CACHE_SHARE = {"cuda": 0.5, "cpu": 0.1}

Prompts = Sequence[Sequence[int]]  # all of one length


def generate_speed(
    model: PreTrainedModel, prompts: Prompts, num_tokens: int, cache: Literal["dynamic", "static"]
) -> float:
    """Output tokens per second of `generate`; on a GPU a static cache makes it compile the model.

    Raises: what transformers raises.
    """
    # Some defaults are taken from the model, and random weights would end streams anywhere.
    model.generation_config = GenerationConfig()
    model.set_attn_implementation("sdpa")
    torch.compiler.reset()  # or code for other shapes would make this one's general and slow
    clock = _StepClock()
    model.generate(
        torch.tensor(prompts, device=model.device),
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=num_tokens,
            cache_implementation="static" if cache == "static" else None,
        ),
        streamer=clock,
    )
    seconds = clock.seconds[1:]  # the first call brings the prompts
    if len(seconds) != num_tokens:
        raise RuntimeError(f"{len(seconds)} steps came for {num_tokens} tokens")
    first = _num_first_steps(num_tokens)
    return len(prompts) * (num_tokens - 1 - first) / (seconds[-1] - seconds[first])


def generate_batch_speed(model: PreTrainedModel, prompts: Prompts, num_tokens: int) -> float:
    """Output tokens per second of `generate_batch` (continuous batching), from its second run on.

    Raises: what transformers raises, or RuntimeError where it only logs.
    """
    config = GenerationConfig(do_sample=False, max_new_tokens=num_tokens, eos_token_id=-1)
    model.set_attn_implementation("sdpa")
    cache = ContinuousBatchingConfig(max_memory_percent=CACHE_SHARE[model.device.type])
    try:
        for _ in range(2):  # the first one captures graphs; its manager stays
            outputs = model.generate_batch(
                [list(prompt) for prompt in prompts],
                generation_config=config,
                continuous_batching_config=cache,
                record_timestamps=True,
                persistent_manager=True,
            ).values()
    finally:
        model.destroy_cached_continuous_batching_manager()
    errors = [output.error for output in outputs if output.error]
    if errors or len(outputs) != len(prompts):
        raise RuntimeError(errors[0] if errors else f"{len(outputs)} of {len(prompts)} came back")
    first = _num_first_steps(num_tokens)
    seconds = [output.timestamps for output in outputs]
    started_at = max(stream[first] for stream in seconds)  # when all of them decode
    num_counted = sum(at > started_at for stream in seconds for at in stream)
    return num_counted / (max(stream[-1] for stream in seconds) - started_at)


def _num_first_steps(num_tokens: int) -> int:
    return min(FIRST_STEPS, num_tokens // 4)


class _StepClock:
    """A streamer of `generate` that only looks at the clock; its tokens come from the GPU."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def put(self, token_ids: torch.Tensor) -> None:
        self.seconds.append(time.perf_counter())

    def end(self) -> None:
        pass
