"""Rounds of an 8B shape with weights of fewer bits beside those in bfloat16, on a GPU.

The layers are quantised by the same function as at the start of a verifier. Beside the times stands
how far the logits of a smaller model are off, relative to those of its own weights. By hand, on a
GPU, with `goodspeed[quantised]` installed: `python -m tests.benchmarks.cuda_quantised [none int4]`;
`70b` runs the shape of Llama-3.3-70B in int4 on one card instead.
"""

from __future__ import annotations

import gc
import sys
import time
from typing import get_args

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from tests.benchmarks.cuda_round import (
    BLOCK_TOKENS,
    CONTEXT_TOKENS,
    NUM_STREAMS,
    blocks_of,
    llama_shape,
    replay_ms,
    round_ms,
)
from verifier.target.precision import Quantisation
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.layers.fused_layers import fuse_layers
from verifier.torch_target.loading.model_memory import cache_tokens
from verifier.torch_target.loading.placement import place_target
from verifier.torch_target.precision.quantisation import quantise, replace_linears
from verifier.torch_target.precision.weight_products import product_maker

DEVICE = torch.device("cuda")
SHAPES = ((1, 8), (8, 4), (16, 4), (64, 4))  # streams × query tokens (drafts and one)


def main() -> None:
    """Print a row for each kind of weights and each shape."""
    print(torch.cuda.get_device_name(0), "torch", torch.__version__)
    if "70b" in sys.argv:
        seventy_billion()
        return
    print("| weights | GiB | n × q | first round s | graph ms | forward ms | sampling ms |")
    print("|---|---|---|---|---|---|---|")
    kinds: tuple[Quantisation, ...] = get_args(Quantisation)
    for kind in kinds:
        if kind in (sys.argv[1:] or kinds):
            rows(kind)
        gc.collect()
        torch.cuda.empty_cache()
    for kind in kinds:
        if kind != "none" and kind in (sys.argv[1:] or kinds):
            print(f"{kind}: logits off by {relative_error(kind):.4f}", flush=True)


def relative_error(kind: Quantisation) -> float:
    """Of the logits of four layers of the 8B shape's width, behind the fused layers."""
    logits = []
    kinds: tuple[Quantisation, Quantisation] = ("none", kind)
    for weights in kinds:
        torch.manual_seed(0)
        model = llama_shape(num_layers=4)
        quantise(model, weights, DEVICE)
        fuse_layers(model)
        token_ids = torch.arange(64, device=DEVICE)[None]
        with torch.inference_mode():
            logits.append(model(token_ids).logits.float())
        del model
    return float((logits[0] - logits[1]).norm() / logits[0].norm())


def seventy_billion() -> None:
    """Llama-3.3-70B's shape in int4: made layer by layer, then rounds and what is left."""
    config = LlamaConfig(
        hidden_size=8192,
        intermediate_size=28_672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=128_256,
        max_position_embeddings=8192,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    make = product_maker("int4", DEVICE)
    for layer in model.model.layers:
        fill(layer.to_empty(device=DEVICE))
        linears = {n: m for n, m in layer.named_modules() if type(m) is nn.Linear}
        replace_linears(layer, linears, make, DEVICE, merges=True)
    for module in (model.model.embed_tokens, model.model.norm, model.lm_head):
        fill(module.to_empty(device=DEVICE))
    model.model.rotary_emb = LlamaRotaryEmbedding(config, device=DEVICE)
    gc.collect()
    torch.cuda.empty_cache()
    print(f"weights {torch.cuda.memory_allocated() / (1 << 30):.1f} GiB")
    num_tokens = cache_tokens(
        model,
        torch.bfloat16,
        DEVICE,
        context_tokens=2048,
        max_round_tokens=1024,
        memory_fraction=0.9,
    )
    print(f"room for {num_tokens} tokens of cache, {num_tokens // 2048} streams of 2,048")
    target = place_target(
        model,
        CacheShape(num_blocks=num_tokens // BLOCK_TOKENS, block_tokens=16, context_tokens=8192),
        device=DEVICE,
        dtype=torch.bfloat16,
        model_name="random",
    )
    for num_streams, num_query in ((1, 8), (8, 4), (16, 4)):
        forward_ms, sampling_ms = round_ms(target, num_streams, num_query)
        print(f"{num_streams} × {num_query}: {forward_ms:.2f} ms, sampling {sampling_ms:.2f}")
    print(f"{torch.cuda.max_memory_allocated() / (1 << 30):.1f} GiB at most")


def fill(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.data.normal_(0, 0.02)


def rows(kind: Quantisation) -> None:
    """Build, quantise and time one model."""
    model = llama_shape()
    quantise(model, kind, DEVICE)
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
        device=DEVICE,
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
