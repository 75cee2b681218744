"""What a target's check of a few draft tokens costs on a CPU beside one token alone, and for what.

    python -m tests.benchmarks.bench_check_tokens --target MODEL [--threads 2] [--core 0 --core 1]

Rounds of one stream take turns by their number of tokens, so that whatever else the machine does
meets all; ms of wall time and of the process, medians. Then, by torch's profiler, the time of
products and of all else in rounds of 1, 5 and 9 tokens.

With `--accepted 0.7,0.6,…` (how likely each place of a draft survives, given that the one before
did) and `--draft-ms`, the best that any fixed length could give over the target alone: with a
board that drafts between rounds, and with one whose drafts are there when a round begins.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections import defaultdict
from pathlib import Path

import click
import torch

from shared.speculation.sampling import GREEDY
from verifier.target.round import DraftCheck, Round, RoundItem
from verifier.target.target_settings import TargetSettings
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.loading.target_loading import load_target

_BLOCK_TOKENS = 16
_PROFILED = (1, 5, 9)
_PRODUCTS = ("mm", "linear")


@click.command()
@click.option("--target", "path", type=click.Path(path_type=Path), required=True)
@click.option("--dtype", default="float32", show_default=True)
@click.option("--threads", default=0, show_default=True)
@click.option("--core", "cores", type=int, multiple=True, help="That it may use.")
@click.option("--context", default=200, show_default=True, help="Tokens before the round's.")
@click.option("--most", default=9, show_default=True, help="Tokens of a round.")
@click.option("--turns", default=25, show_default=True)
@click.option("--accepted", default="", help="Conditional survival of places 1, 2, … of a draft.")
@click.option("--draft-ms", default=1.0, show_default=True, help="Of a draft token, on its core.")
@click.option("--overhead-ms", default=2.0, show_default=True, help="Of a round beside the check.")
def main(
    path: Path,
    dtype: str,
    threads: int,
    cores: tuple[int, ...],
    context: int,
    most: int,
    turns: int,
    accepted: str,
    draft_ms: float,
    overhead_ms: float,
) -> None:
    """Print the curve, where the time goes, and the best of fixed lengths."""
    if cores:
        os.sched_setaffinity(0, cores)
    settings = TargetSettings(
        device="cpu",
        dtype=dtype,  # type: ignore[arg-type]
        quantisation="none",
        batch_invariant=False,
        threads=threads,
        context_tokens=1024,
        kv_cache_tokens=2048,
        block_tokens=_BLOCK_TOKENS,
        max_round_tokens=512,
        memory_fraction=0.9,
    )
    target = load_target(path, settings).target
    _run(target, 0, context)  # a prompt
    print(f"{torch.get_num_threads()} threads, {dtype}, context {context}")
    curve = _curve(target, context, most, turns)
    for num_tokens in _PROFILED:
        if num_tokens <= most:
            _tell_shares(target, context, num_tokens)
    if accepted:
        _tell_best([float(word) for word in accepted.split(",")], curve, draft_ms, overhead_ms)


def _curve(target: TorchTarget, context: int, most: int, turns: int) -> list[float]:
    wall: dict[int, list[float]] = defaultdict(list)
    used: dict[int, list[float]] = defaultdict(list)
    for turn, num_tokens in itertools.product(range(turns + 2), range(1, most + 1)):
        began, began_used = time.perf_counter(), time.process_time()
        _run(target, context, num_tokens)
        if turn >= 2:  # products of new sizes are prepared once
            wall[num_tokens].append(1e3 * (time.perf_counter() - began))
            used[num_tokens].append(1e3 * (time.process_time() - began_used))
    print("| tokens | ms | least | ms of the process | over one token |\n|---|---|---|---|---|")
    medians = [statistics.median(wall[number]) for number in range(1, most + 1)]
    for number, median in enumerate(medians, 1):
        cells = f"{median:.1f} | {min(wall[number]):.1f} | {statistics.median(used[number]):.1f}"
        print(f"| {number} | {cells} | {median / medians[0]:.2f} |")
    return medians


def _run(target: TorchTarget, num_cached: int, num_tokens: int) -> None:
    """A round of one stream, all but its first token drafts; a prompt where none is cached."""
    token_ids = tuple(range(100, 100 + num_tokens))
    num_blocks = -(-(num_cached + num_tokens) // _BLOCK_TOKENS)
    check = None
    if num_cached:
        check = DraftCheck(token_ids[1:], (), "coupled", GREEDY, 0, 0, draws_bonus=True)
    item = RoundItem(0, token_ids, num_cached, tuple(range(num_blocks)), check)
    target.run(Round((item,)))


def _tell_shares(target: TorchTarget, context: int, num_tokens: int) -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(5):
            _run(target, context, num_tokens)
    times = {event.key: event.self_cpu_time_total / 5e3 for event in profile.key_averages()}
    products = sum(ms for name, ms in times.items() if any(part in name for part in _PRODUCTS))
    others = sorted(times.items(), key=lambda pair: -pair[1])[:6]
    told = ", ".join(f"{name} {ms:.1f}" for name, ms in others)
    print(f"{num_tokens} tokens: products {products:.1f} of {sum(times.values()):.1f} ms ({told})")


def _tell_best(
    accepted: list[float], curve: list[float], draft_ms: float, overhead_ms: float
) -> None:
    print("| draft | tokens of a round | over alone, drafted between | drafted ahead |")
    print("|---|---|---|---|")
    alone = curve[0] + overhead_ms
    tokens = survival = 1.0
    for length, (rate, check_ms) in enumerate(zip(accepted, curve[1:], strict=False), 1):
        survival *= rate
        tokens += survival
        round_ms = check_ms + overhead_ms
        between, ahead = round_ms + length * draft_ms, max(round_ms, length * draft_ms)
        ratios = (tokens * alone / ms for ms in (between, ahead))
        print(f"| {length} | {tokens:.2f} | " + " | ".join(f"{x:.2f}" for x in ratios) + " |")


if __name__ == "__main__":
    main()
