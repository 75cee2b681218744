"""Rounds of a real-shape model with random weights on a GPU, against what its parts must cost.

The bound is the model's merged matrix products by cuBLAS in one CUDA graph, plus the time to read
the live keys and values once at the bandwidth of a reduction.  By hand, on a GPU:
`python -m tests.benchmarks.cuda_round`, with `qwen3-14b` for that shape.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.sparse_row import SparseRow
from verifier.target.round import DraftCheck, Round, RoundItem
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.forward.gpu_forward import GpuForward
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.kernels.attention import paged_attention
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.kernels.paged_layout import PagedLayout, positions_of
from verifier.torch_target.kernels.score_rule import ScoreRule
from verifier.torch_target.loading.placement import place_target

Model = TypeVar("Model", LlamaForCausalLM, Qwen3ForCausalLM)

SHAPES = ((64, 4), (32, 4), (8, 4), (1, 8))  # streams × query tokens (drafts and one)
QWEN_SHAPES = ((48, 3), (16, 6), (4, 9))
CONTEXT_TOKENS = 1024
BLOCK_TOKENS = 16
NUM_STREAMS = 64
SAMPLED = SamplingParameters(0.8, 0, 0.95)


def main(name: str = "llama-3.1-8b") -> None:
    """Print the table of one GPU."""
    print(torch.cuda.get_device_name(0), "torch", torch.__version__, name)
    bandwidth = read_bandwidth()
    print(f"read bandwidth by a reduction: {bandwidth / 1e12:.2f} TB/s")
    if name == "qwen3-14b":
        model, shapes = qwen3_shape(), QWEN_SHAPES
    else:
        model, shapes = llama_shape(), SHAPES
    config = model.config
    kv_bytes = 2 * 2 * config.num_key_value_heads * config.head_dim * config.num_hidden_layers
    products = {shape: products_ms(model, shape[0] * shape[1]) for shape in shapes}
    target = place_target(
        model,
        CacheShape(
            num_blocks=NUM_STREAMS * blocks_of(CONTEXT_TOKENS + 9),
            block_tokens=BLOCK_TOKENS,
            context_tokens=8192,
        ),
        device=torch.device("cuda"),
        dtype=torch.bfloat16,
        model_name="random",
    )
    print(
        "| n × q | products ms | KV ms | forward ms | over bound "
        "| step ms | over forward | sampling ms |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for shape in shapes:
        num_streams, num_query = shape
        kv_ms = 1e3 * num_streams * (CONTEXT_TOKENS + num_query) * kv_bytes / bandwidth
        step_ms, sampling_ms = round_ms(target, *shape)
        forward_ms = replay_ms(target)
        bound = products[shape] + kv_ms
        print(
            f"| {num_streams} × {num_query} | {products[shape]:.2f} | {kv_ms:.2f} "
            f"| {forward_ms:.2f} | {forward_ms / bound:.2f} "
            f"| {step_ms:.2f} | {step_ms / forward_ms:.2f} | {sampling_ms:.2f} |",
            flush=True,
        )
    attention(bandwidth)


def blocks_of(num_tokens: int) -> int:
    return -(-num_tokens // BLOCK_TOKENS)


def llama_shape(num_layers: int = 32, context_tokens: int = 8192) -> LlamaForCausalLM:
    """Llama-3.1-8B's shape with random weights in bfloat16 on the GPU, or fewer of its layers."""
    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=num_layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128_256,
        max_position_embeddings=context_tokens,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    return _filled(model, LlamaRotaryEmbedding(config))


def qwen3_shape() -> Qwen3ForCausalLM:
    """Qwen3-14B's shape with random weights in bfloat16 on the GPU."""
    config = Qwen3Config(
        hidden_size=5120,
        intermediate_size=17408,
        num_hidden_layers=40,
        num_attention_heads=40,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151_936,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        model = Qwen3ForCausalLM(config)
    return _filled(model, Qwen3RotaryEmbedding(config))


def _filled(model: Model, rotations: torch.nn.Module) -> Model:
    """The model on the GPU, with random weights and these rotations, which have none."""
    model.to(torch.bfloat16).to_empty(device="cuda")
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.02)
    model.model.rotary_emb = rotations.to("cuda")
    return model


def round_ms(target: TorchTarget, num_streams: int, num_query: int) -> tuple[float, float]:
    """Median wall time of a whole `draft_check`, and what its sampling takes of it on the GPU.

    Half of the streams are coupled, half have draft distributions of 32 tokens.
    """
    num_blocks = blocks_of(CONTEXT_TOKENS + 9)
    items = tuple(
        RoundItem(
            i,
            (7,) * num_query,
            CONTEXT_TOKENS,
            tuple(range(i * num_blocks, (i + 1) * num_blocks)),
            _check(i, num_query - 1),
        )
        for i in range(num_streams)
    )
    steps, samplings = [], []
    for _ in range(25):
        started_at = time.perf_counter()
        outcome = target.run(Round(items))
        steps.append(1e3 * (time.perf_counter() - started_at))
        samplings.append(1e3 * outcome.sampling_seconds)
    return statistics.median(steps[5:]), statistics.median(samplings[5:])


def _check(stream: int, num_drafts: int) -> DraftCheck:
    token_ids = tuple(1000 * i + stream for i in range(num_drafts))
    if stream % 2:
        return DraftCheck(token_ids, (), "coupled", SAMPLED, stream, 0, True)
    weights = np.sort(np.arange(32, dtype=np.uint16) * 100 + 5)[::-1]
    rows = tuple(
        SparseRow(np.arange(token_id, token_id + 32, dtype=np.uint32), weights)
        for token_id in token_ids
    )
    return DraftCheck(token_ids, rows, "rejection", SAMPLED, stream, 0, True)


def replay_ms(target: TorchTarget) -> float:
    """The graph that was captured last, alone."""
    forward = target._forward
    assert isinstance(forward, GpuForward)
    captured = list(forward._graphs._captured.values())[-1]
    return timed_ms(captured.graph.replay)


def products_ms(model: LlamaForCausalLM | Qwen3ForCausalLM, num_tokens: int) -> float:
    """All matrix products of the model with merged projections, in one graph."""
    hidden, inner = model.config.hidden_size, model.config.intermediate_size
    layers = []
    for layer in model.model.layers:
        attention_, mlp = layer.self_attn, layer.mlp
        qkv = torch.cat(
            [p.weight for p in (attention_.q_proj, attention_.k_proj, attention_.v_proj)]
        )
        gate_up = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
        layers.append((qkv, attention_.o_proj.weight, gate_up, mlp.down_proj.weight))
    x = torch.randn(num_tokens, hidden, dtype=torch.bfloat16, device="cuda")
    y = torch.randn(num_tokens, inner, dtype=torch.bfloat16, device="cuda")

    def forward() -> Tensor:
        for qkv, output, gate_up, down in layers:
            x @ qkv.t()
            x @ output.t()
            x @ gate_up.t()
            y @ down.t()
        return x @ model.lm_head.weight.t()

    return graph_ms(forward)


def read_bandwidth() -> float:
    """Bytes per second that a sum over 8 GB reads."""
    many = torch.ones(2 << 30, dtype=torch.float32, device="cuda")
    return many.numel() * 4 / (graph_ms(many.sum) / 1e3)


def graph_ms(forward: Callable[[], object]) -> float:
    side = torch.cuda.Stream()
    with torch.inference_mode(), torch.cuda.stream(side):
        forward()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        forward()
    return timed_ms(graph.replay)


def timed_ms(action: Callable[[], object]) -> float:
    """Milliseconds of one of 30 in a row, after 5."""
    for _ in range(5):
        action()
    torch.cuda.synchronize()
    started_at = time.perf_counter()
    for _ in range(30):
        action()
    torch.cuda.synchronize()
    return (time.perf_counter() - started_at) / 30 * 1e3


def attention(bandwidth: float) -> None:
    """The attention kernel alone at 64 × 4 and context 4,096, over 8 layers' worth of cache."""
    num_blocks = blocks_of(4096)
    items = [
        RoundItem(
            i,
            (7,) * 4,
            4092,
            tuple(range(i * num_blocks, (i + 1) * num_blocks)),
            DraftCheck((7,) * 3, (), "coupled", GREEDY, i, 0, True),
        )
        for i in range(64)
    ]
    heads = HeadShape(32, 8)
    num_cores = torch.cuda.get_device_properties(0).multi_processor_count
    layout = PagedLayout.of(items, positions_of(items), BLOCK_TOKENS, heads, [None], num_cores).to(
        torch.device("cuda")
    )
    shape = (64 * 4096, heads.num_kv_heads, 128)
    caches = [
        tuple(torch.randn(shape, dtype=torch.bfloat16, device="cuda") for _ in range(2))
        for _ in range(8)
    ]
    query = torch.randn(256, 32, 128, dtype=torch.bfloat16, device="cuda").transpose(0, 1)

    def layers() -> None:
        for keys, values in caches:
            paged_attention(query, keys, values, layout, ScoreRule(128**-0.5))

    ms = graph_ms(layers) / len(caches)
    bound = 1e3 * 2 * 2 * 64 * 4096 * heads.num_kv_heads * 128 / bandwidth
    print(f"attention 64 × 4 at context 4,096: {ms:.3f} ms, {ms / bound:.2f} × reading the cache")


if __name__ == "__main__":
    main(*sys.argv[1:])
