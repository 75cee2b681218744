"""Rounds of an 8B shape with 8-bit weights beside those in bfloat16, on a GPU.

The layers are quantised by the same function as at the start of a verifier.  The first round of a
shape is slow: gemlite tries its kernels out, and a CUDA graph is captured.  By hand, on a GPU, with
`goodspeed[quantised]` installed: `python -m tests.benchmarks.cuda_quantised [none int8 fp8]`.
"""

from __future__ import annotations

import gc
import sys
import time
from typing import get_args

import torch

from tests.benchmarks.cuda_round import (
    BLOCK_TOKENS,
    CONTEXT_TOKENS,
    NUM_STREAMS,
    blocks_of,
    llama_8b_shape,
    replay_ms,
    round_ms,
)
from verifier.target.precision import Quantisation
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.loading.placement import place_target
from verifier.torch_target.loading.quantisation import quantise

SHAPES = ((8, 4), (64, 4))  # streams × query tokens (drafts and one)


def main() -> None:
    """Print a row for each kind of weights and each shape."""
    print(torch.cuda.get_device_name(0), "torch", torch.__version__)
    print("| weights | GiB | n × q | first round s | graph ms | forward ms | sampling ms |")
    print("|---|---|---|---|---|---|---|")
    kinds: tuple[Quantisation, ...] = get_args(Quantisation)
    for kind in kinds:
        if kind in (sys.argv[1:] or kinds):
            rows(kind)
        gc.collect()
        torch.cuda.empty_cache()


def rows(kind: Quantisation) -> None:
    """Build, quantise and time one model."""
    device = torch.device("cuda")
    model = llama_8b_shape()
    quantise(model, kind, device)
    gc.collect()
    torch.cuda.empty_cache()
    weights_gib = torch.cuda.memory_allocated() / (1 << 30)
    target = place_target(
        model,
        CacheShape(
            num_blocks=NUM_STREAMS * blocks_of(CONTEXT_TOKENS + 8),
            block_tokens=BLOCK_TOKENS,
            context_tokens=8192,
        ),
        device=device,
        dtype=torch.bfloat16,
        model_name="random",
    )
    for num_streams, num_query in SHAPES:
        started_at = time.perf_counter()
        forward_ms, sampling_ms = round_ms(target, num_streams, num_query)
        first_seconds = time.perf_counter() - started_at - 24 * (forward_ms + sampling_ms) / 1e3
        print(
            f"| {kind} | {weights_gib:.1f} | {num_streams} × {num_query} | {first_seconds:.1f} "
            f"| {replay_ms(target):.2f} | {forward_ms:.2f} | {sampling_ms:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
