"""A prompt of 131,072 tokens beside 16 streams on a GPU, with Llama-3.1-8B's shape.

Rounds are planned by the verifier's own planner over a measured cost curve and run by its own
target with random weights: what a prompt does to the rounds of others, how long it takes, and how
much memory all of it took against what was computed before.
By hand, on a GPU: `python -m tests.benchmarks.cuda_long_prompt`; anywhere, a small one without
memory: `python -m tests.benchmarks.cuda_long_prompt --tiny`.
"""

from __future__ import annotations

import sys
import time

import torch
from transformers import PreTrainedModel

from shared.protocol.text import ByteAssembler
from tests.benchmarks.cuda_round import llama_shape
from tests.support.ends.limits import make_round_settings
from tests.support.ends.long_prompt import percentile
from tests.support.ends.planning import make_stream
from tests.support.models.tiny_models import tiny_llama
from verifier.config import RoundsSection
from verifier.cost_curve.measurement import (
    QUICK_ON_CPU,
    QUICK_ON_GPU,
    CurveGrid,
    GridSize,
    measure_curve,
    warm_up_rounds,
)
from verifier.policies import FixedPolicy
from verifier.rounds.blocks import BlockPool
from verifier.rounds.planner import RoundPlanner
from verifier.streams.stream import Stream
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.loading.kv_memory import TargetShape
from verifier.torch_target.loading.placement import place_target

NUM_OTHERS = 16
OTHERS_CONTEXT = 128
OTHERS_OUTPUT = 6000
BLOCK_TOKENS = 16


def main() -> None:
    """Print one line for the rounds and one for the memory."""
    if "--tiny" in sys.argv[1:]:
        play(tiny_llama(context_tokens=16_384), 4096, QUICK_ON_CPU)
        return
    print(torch.cuda.get_device_name(0), "torch", torch.__version__, flush=True)
    num_tokens = 131_072
    model = llama_shape(context_tokens=num_tokens + 1024)
    weights_bytes = torch.cuda.memory_allocated()
    cache_tokens = play(model, num_tokens, QUICK_ON_GPU)
    config = model.config
    num_values = config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    shape = TargetShape(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        kv_values_per_token=2 * num_values,
        element_bytes=2,
    )
    round_bytes = shape.round_bytes(RoundsSection().max_round_tokens)
    computed = weights_bytes + cache_tokens * shape.cached_token_bytes + round_bytes
    peak = torch.cuda.max_memory_allocated()
    print(f"memory: {peak / 1e9:.1f} GB at the peak, {computed / 1e9:.1f} GB computed before")
    if peak > computed:
        sys.exit("more memory than was computed")


def play(model: PreTrainedModel, num_tokens: int, size: GridSize) -> int:
    """Let the prompt come beside the others, and print how their rounds went.

    Returns the tokens of the cache.
    """
    context_tokens = max(num_tokens, OTHERS_OUTPUT) + 1024
    cache_tokens = context_tokens + NUM_OTHERS * (OTHERS_CONTEXT + OTHERS_OUTPUT + BLOCK_TOKENS)
    device = model.device
    target = place_target(
        model,
        CacheShape(
            num_blocks=cache_tokens // BLOCK_TOKENS,
            block_tokens=BLOCK_TOKENS,
            context_tokens=context_tokens,
        ),
        device=device,
        dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
        model_name="random",
    )
    most = RoundsSection().max_round_tokens
    for round_ in warm_up_rounds(target, most) if device.type == "cuda" else []:
        target.run(round_)
    curve = measure_curve(target, CurveGrid.of(target, most, size))
    blocks = BlockPool(target.num_blocks, target.block_tokens)
    planner = RoundPlanner(make_round_settings(), FixedPolicy(0), curve, blocks)
    for number in range(NUM_OTHERS):
        planner.add(_stream(number, OTHERS_CONTEXT, OTHERS_OUTPUT, target.vocab_size))
    for _ in range(50):
        _run_round(planner, target)
    alone = [_run_round(planner, target) for _ in range(200)]
    long = _stream(NUM_OTHERS, num_tokens, 1, target.vocab_size)
    planner.add(long)
    beside, started_at = [], time.monotonic()
    while not long.output_ids:
        beside.append(_run_round(planner, target))
    seconds = time.monotonic() - started_at
    p99_alone, p99_beside = (1e3 * percentile(rounds, 0.99) for rounds in (alone, beside))
    print(
        f"{num_tokens} tokens in {len(beside)} rounds, {seconds:.1f} s to the first token; p99 "
        f"alone {p99_alone:.1f} ms, beside {p99_beside:.1f} ms, {p99_beside / p99_alone:.2f} "
        f"times; medians {1e3 * percentile(alone, 0.5):.1f} and "
        f"{1e3 * percentile(beside, 0.5):.1f} ms",
        flush=True,
    )
    return cache_tokens


def _stream(number: int, num_tokens: int, num_output: int, vocab_size: int) -> Stream:
    stream = make_stream(
        number,
        device=f"board-{number}",
        prompt_ids=tuple((7 * i + number) % vocab_size for i in range(num_tokens)),
        max_output_tokens=num_output,
        end_ids=frozenset(),
        draft_length=0,
    )
    stream.text = ByteAssembler([b"x"] * vocab_size, frozenset())
    return stream


def _run_round(planner: RoundPlanner, target: TorchTarget) -> float:
    """Seconds of a whole round."""
    started_at = time.monotonic()
    round_ = planner.start_round(started_at)
    assert round_ is not None
    outcome = target.run(round_)
    seconds = time.monotonic() - started_at
    planner.finish_round(round_, outcome, seconds, time.monotonic())
    planner.follow_up(time.monotonic())
    return time.monotonic() - started_at


if __name__ == "__main__":
    main()
