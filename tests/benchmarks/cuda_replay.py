"""Tokens per second of a real-shape model with random weights, with scripted drafts and without.

Boards draft at once and a script says what is accepted; rounds, planner and engine are the
verifier's own.  Beside it transformers' own `generate` and `generate_batch` of the same model.
By hand, on a GPU: `python -m tests.benchmarks.cuda_replay` (Llama-3.1-8B's shape); anywhere:
`python -m tests.benchmarks.cuda_replay --tiny`.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import transformers
from transformers import PreTrainedModel

from shared.speculation.sampling import SamplingParameters
from tests.benchmarks.transformers_speed import Prompts, generate_batch_speed, generate_speed
from tests.support.models.replay_load import ReplayFigures, ReplayFleet, ReplayLoad
from tests.support.models.replay_target import AcceptanceScript, ReplayTarget
from tests.support.models.tiny_models import tiny_llama
from verifier.cost_curve.curve import CostCurve
from verifier.cost_curve.measurement import (
    QUICK_ON_CPU,
    QUICK_ON_GPU,
    CurveGrid,
    measure_curve,
    warm_up_rounds,
)
from verifier.rounds.settings import RoundsSection
from verifier.target.target import TargetModel
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.loading.placement import place_target

BLOCK_TOKENS = 16
CURVE_TOKENS = 8192  # of the cache, at least: the curve is measured in it
# The boards' time is a part of settling here; a real verifier takes drafts in during the round.
PHASES = ("plan_seconds", "forward_seconds", "sampling_seconds", "settle_seconds")
COLUMNS = (
    *("streams", "what", "tokens/s", "× alone", "tokens/s, all run", "× alone", "per stream"),
    *("draft length", "accepted", "tokens/turn", "rounds", "round ms", "p99 ms"),
    *("plan ms", "forward ms", "sampling ms", "settle ms", "boards ms"),
)

# Enough for a rival's speed: its contexts grow as ours do, and a lease is short.
RIVAL_TOKENS = 64

# Not a row of numbers but why there is none.
Reasons = list[str]


def main() -> None:
    """Print one table, and a line for each rival that could not run."""
    started_at = time.monotonic()
    options = _options()
    device = torch.device("cpu" if options.tiny else "cuda")
    if options.tiny:
        torch.set_num_threads(1)  # two wait for each other in products this small
    name = "CPU" if options.tiny else torch.cuda.get_device_name(0)
    print(f"{name}, torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"{options.mode}, {options.sampling}, acceptance {options.acceptance_rate}, simulated")
    model = tiny_llama() if options.tiny else _llama_8b()
    rivals: dict[int, list[tuple[str, float]]] = {}
    reasons: Reasons = []
    if not options.without_transformers:  # first: our target changes the model's forward pass
        for num_streams in options.streams:
            _say(f"transformers, {num_streams} streams")
            rivals[num_streams] = _rivals(model, num_streams, options, reasons)
    target = _target(model, device, options)
    if not options.tiny:
        _say("warming up")
        for round_ in warm_up_rounds(target, RoundsSection().max_round_tokens):
            target.run(round_)
    _say("measuring the rounds")
    size = QUICK_ON_CPU if options.tiny else QUICK_ON_GPU  # what the verifier does at its start
    grid = CurveGrid.of(target, RoundsSection().max_round_tokens, size)
    curve = measure_curve(target, grid)
    print(f"| {' | '.join(COLUMNS)} |")
    print("|" + "---|" * len(COLUMNS))
    for num_streams in options.streams:
        _rows(num_streams, target, curve, options, rivals.get(num_streams, []))
    for reason in reasons:
        print(reason)
    print(f"{time.monotonic() - started_at:.0f} s in all")


def _options() -> Any:  # argparse.Namespace, and `sampling`
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, nargs="+")
    parser.add_argument("--acceptance-rate", type=float, default=0.8)
    parser.add_argument("--policies", nargs="+", default=["goodspeed"])
    parser.add_argument("--mode", choices=["coupled", "rejection"], default="coupled")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: greedy")
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--draft-length", type=int, help="for all streams; else the scheduler's")
    parser.add_argument("--context", type=int, help="tokens of every prompt")
    parser.add_argument("--tokens", type=int, help="output tokens of every stream")
    parser.add_argument("--without-transformers", action="store_true")
    parser.add_argument(
        "--static-cache", action="store_true", help="generate with one too: compiles for minutes"
    )
    parser.add_argument("--tiny", action="store_true", help="a model of no size, on the CPU")
    options = parser.parse_args()
    options.streams = options.streams or ([2, 4] if options.tiny else [8, 64])
    options.context = options.context or (64 if options.tiny else 1024)
    options.tokens = options.tokens or (64 if options.tiny else 256)
    options.sampling = SamplingParameters(options.temperature, 0, options.top_p)
    if options.mode == "rejection" and options.sampling.is_greedy:
        parser.error("--mode rejection needs a --temperature above 0")
    return options


def _llama_8b() -> PreTrainedModel:
    # Its module imports kernels, which a run on a CPU cannot always do.
    from tests.benchmarks.cuda_round import llama_shape

    return llama_shape()


def _target(model: PreTrainedModel, device: torch.device, options: Any) -> TorchTarget:
    blocks_of_stream = -(-(options.context + 1 + options.tokens) // BLOCK_TOKENS)
    num_blocks = max(max(options.streams) * blocks_of_stream, CURVE_TOKENS // BLOCK_TOKENS)
    return place_target(
        model,
        CacheShape(
            num_blocks=num_blocks,
            block_tokens=BLOCK_TOKENS,
            context_tokens=model.config.max_position_embeddings,
        ),
        device=device,
        dtype=torch.float32 if options.tiny else torch.bfloat16,
        model_name="random",
    )


def _rows(
    num_streams: int,
    target: TargetModel,
    curve: CostCurve,
    options: Any,
    rivals: Sequence[tuple[str, float]],
) -> None:
    """The rows of one number of streams; the ratios are to our own rounds without drafts."""
    alone = _played(num_streams, target, curve, options, RoundsSection(max_window=0))
    for name, tokens_per_second in rivals:
        ratio = tokens_per_second / alone.tokens_per_second
        _print(num_streams, name, f"{tokens_per_second:.0f}", f"{ratio:.2f}")
    _print(num_streams, "goodspeed without drafts", *_cells(alone, alone))
    for policy in options.policies:
        rounds = RoundsSection(policy=policy, measure_payoff=False)  # the run is too short for it
        drafted = _played(num_streams, target, curve, options, rounds)
        _print(num_streams, f"goodspeed, policy {policy}", *_cells(drafted, alone))


def _played(
    num_streams: int, target: TargetModel, curve: CostCurve, options: Any, rounds: RoundsSection
) -> ReplayFigures:
    """The second of two equal loads: graphs are captured and the boards are known."""
    script = AcceptanceScript(options.acceptance_rate, 1 + options.tokens)
    own_curve = CostCurve.from_json(curve.to_json())
    fleet = ReplayFleet(ReplayTarget(target, script), rounds, own_curve)
    load = ReplayLoad(
        num_streams,
        options.context,
        options.tokens,
        options.mode,
        options.sampling,
        options.draft_length,
    )
    fleet.play(load)
    return fleet.play(load)


def _cells(figures: ReplayFigures, alone: ReplayFigures) -> tuple[str, ...]:
    accepted = figures.acceptance_rate
    milliseconds = [1e3 * figures.round_seconds(percent) for percent in (50, 99)]
    milliseconds += [1e3 * figures.phase_seconds(phase) for phase in PHASES]
    milliseconds.append(1e3 * figures.boards_seconds / len(figures.reports))
    return (
        f"{figures.tokens_per_second:.0f}",
        f"{figures.tokens_per_second / alone.tokens_per_second:.2f}",
        f"{figures.tokens_per_second_of_all:.0f}",
        f"{figures.tokens_per_second_of_all / alone.tokens_per_second_of_all:.2f}",
        f"{figures.stream_tokens_per_second:.1f}",
        f"{figures.draft_length:.2f}",
        "–" if accepted is None else f"{accepted:.3f}",
        f"{figures.tokens_per_turn:.2f}",
        str(len(figures.reports)),
        *(f"{value:.2f}" for value in milliseconds),
    )


def _print(num_streams: int, what: str, *cells: str) -> None:
    empty = [""] * (len(COLUMNS) - 2 - len(cells))
    print(f"| {' | '.join((str(num_streams), what, *cells, *empty))} |", flush=True)


def _rivals(
    model: PreTrainedModel, num_streams: int, options: Any, reasons: Reasons
) -> list[tuple[str, float]]:
    prompts: Prompts = (
        np.random.default_rng(num_streams)
        .integers(model.config.vocab_size, size=(num_streams, options.context))
        .tolist()
    )
    num_tokens = min(options.tokens, RIVAL_TOKENS)
    calls: dict[str, Callable[[], float]] = {
        "generate": partial(generate_speed, model, prompts, num_tokens, "dynamic"),
        "generate_batch": partial(generate_batch_speed, model, prompts, num_tokens),
    }
    if options.static_cache:
        static = partial(generate_speed, model, prompts, num_tokens, "static")
        calls["generate, static cache"] = static
    speeds = []
    for name, call in calls.items():
        try:
            speed = call()
            _say(f"{name}, {num_streams} streams: {speed:.0f} tokens/s")
            speeds.append((f"transformers {name}", speed))
        except Exception as error:  # noqa: BLE001  # a rival that cannot run is a result
            sentence = " ".join(str(error).split())[:300]
            reasons.append(f"{name}, {num_streams} streams: {type(error).__name__}: {sentence}")
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return speeds


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
