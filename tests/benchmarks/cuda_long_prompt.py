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
from typing import Any

import torch
from transformers import PreTrainedModel

from tests.benchmarks.cuda_round import llama_shape
from tests.support.ends.limits import make_round_settings
from tests.support.ends.long_prompt import percentile
from tests.support.ends.planned_prompt import Played, play_beside, prompt_stream
from tests.support.models.tiny_models import tiny_llama
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
from verifier.rounds.settings import RoundsSection
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.loading.kv_memory import TargetShape
from verifier.torch_target.loading.placement import place_target

NUM_OTHERS = 16
OTHERS_CONTEXT = 128
OTHERS_OUTPUT = 9000  # 131,072 tokens in least chunks and the rounds before and after
MOST_READING_SECONDS = 60.0
NUM_DEPTHS = 8  # rows of the table
BLOCK_TOKENS = 16


def main() -> None:
    """Print what the rounds took, and one line for the memory."""
    if "--tiny" in sys.argv[1:]:
        play(tiny_llama(context_tokens=65_536), 32_768, QUICK_ON_CPU)
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
    started_at = time.monotonic()
    grid = CurveGrid.of(target, most, size)
    curve = measure_curve(target, grid)
    print(
        f"measured {grid.num_rounds} rounds, {len(grid.chunks)} forms of chunks among them, in "
        f"{time.monotonic() - started_at:.1f} s",
        flush=True,
    )
    blocks = BlockPool(target.num_blocks, target.block_tokens)
    # The limit that all prompts together have; one device's own is lower by default, and slower.
    rounds = make_round_settings(device_prefill_slowdown_limit=1.0)
    planner = RoundPlanner(rounds, FixedPolicy(0), curve, blocks)
    others = [
        prompt_stream(number, OTHERS_CONTEXT, OTHERS_OUTPUT, target.vocab_size)
        for number in range(NUM_OTHERS)
    ]
    long = prompt_stream(NUM_OTHERS, num_tokens, 1, target.vocab_size)
    if device.type == "cuda":
        tell_what_is_compiled()
    show(
        play_beside(
            planner, target, time.monotonic, others, [long], most_seconds=MOST_READING_SECONDS
        ),
        num_tokens,
    )
    return cache_tokens


def tell_what_is_compiled() -> None:
    """Of a kernel that is compiled from here on, while streams wait: there should be none."""
    from triton import knobs

    def tell(**compiled: Any) -> None:
        print("compiled in the midst of service:", compiled["fn"].name, flush=True)

    knobs.runtime.jit_post_compile_hook = tell


def show(played: Played, num_tokens: int) -> None:
    """Print p99 with and without the prompt, tokens lost, and what chunks took by their depth."""
    through = "whole" if played.is_read else f"NOT WHOLE within {MOST_READING_SECONDS:.0f} s"
    seconds = [round_.seconds for round_ in played.beside]
    print(
        f"{num_tokens} tokens in {len(seconds)} rounds, {sum(seconds):.1f} s, {through}; "
        f"{played.num_lost_tokens} tokens of others lost"
    )
    before, beside, after = (
        f"{1e3 * percentile(rounds, 0.99):.1f} (median {1e3 * percentile(rounds, 0.5):.1f})"
        for rounds in (played.seconds_before, seconds, played.seconds_after)
    )
    longest = max(range(len(seconds)), key=seconds.__getitem__)
    print(f"the longest was number {longest}, a chunk of {played.beside[longest].chunk_tokens}")
    of_before = percentile(seconds, 0.99) / percentile(played.seconds_before, 0.99)
    print(
        f"p99 ms: alone before {before}, beside {beside}, alone after {after}; longest "
        f"{1e3 * max(seconds):.1f}; {played.ratio:.2f} times that of rounds alone before and after "
        f"(aim: <= 2.1), {of_before:.2f} times that of rounds before"
    )
    print("| depth | rounds | chunk | median ms | expected | p99 ms |\n|---|---|---|---|---|---|")
    for part in range(NUM_DEPTHS):
        lowest, end = (num_tokens * number // NUM_DEPTHS for number in (part, part + 1))
        rounds = [round_ for round_ in played.beside if lowest <= round_.depth_tokens < end]
        if rounds:
            middle = sorted(rounds, key=lambda round_: round_.seconds)[len(rounds) // 2]
            print(
                f"| {lowest:,} | {len(rounds)} | {middle.chunk_tokens} "
                f"| {1e3 * middle.seconds:.1f} | {1e3 * middle.expected_seconds:.1f} "
                f"| {1e3 * percentile([round_.seconds for round_ in rounds], 0.99):.1f} |"
            )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
