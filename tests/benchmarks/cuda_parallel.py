"""One target over several GPUs: text against that of one, and rounds against what they must cost.

A rank's bound is its own merged products, reading its part of the live cache once, the sums over
ranks and the gathered logits, each alone in a CUDA graph. Models have the shapes of Llama-3.1-8B
and 70B, with random weights made on the GPUs. Each part runs in processes of its own, so one that
fails ends no other. By hand, on a machine with 2, 4 or 8 GPUs: `python -m
tests.benchmarks.cuda_parallel`, or only some parts: `… 8b 70b`, `… sums text --ranks 4`.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

PARTS = ("8b", "70b", "sums", "text")
# By hand alone: those of fewer bits, whose products are not bounded here.
QUANTISED = {"8b-int4": "int4", "8b-int8": "int8", "8b-fp8": "fp8"}
PART_SECONDS = {"8b": 80.0, "70b": 110.0, "sums": 60.0, "text": 160.0}
# Streams, query tokens (drafts and one), tokens of context: 70B leaves little of two H100s free.
SHAPES = {"8b": ((64, 4, 1024), (8, 4, 1024)), "70b": ((64, 4, 512), (8, 4, 1024))}
MOST_CACHED = {"8b": 64 * 1040, "70b": 64 * 528}
SIZES = {
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
    "70b": {
        "hidden_size": 8192,
        "intermediate_size": 28_672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
}
VOCABULARY = 128_256
MEASURED_LAYERS = 8  # of which products are measured: more than any cache holds
SUMS = (32, 128, 256)  # tokens
RESULT = "forward_ms"


def main() -> None:
    """Start what is wanted, part by part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=PARTS)
    parser.add_argument("--ranks", nargs="*", type=int, default=[])
    parser.add_argument("--rank", nargs=3, type=int, metavar=("RANK", "NUM", "PORT"))
    options = parser.parse_args()
    if options.rank:
        run_rank(options.parts[0], *options.rank)
        return
    num_gpus = torch.cuda.device_count()
    print(num_gpus, "×", torch.cuda.get_device_name(0), "torch", torch.__version__, flush=True)
    ranks = options.ranks or [number for number in (1, 2, 4, 8) if number <= num_gpus]
    measured: dict[tuple[str, int, str], float] = {}
    for part in options.parts:
        if part in SHAPES or part in QUANTISED:
            print(
                f"\n{part}\n| ranks | n × q at context | products ms | cache ms | sums ms "
                "| logits ms | forward ms | ÷ bound | whole step ms |"
            )
            print("|---|---|---|---|---|---|---|---|---|", flush=True)
        for num_ranks in ranks:
            if num_ranks == 1 and not part.startswith("8b"):
                continue
            if part == "text" and num_ranks != ranks[-1]:
                continue
            for line in started(part, num_ranks):
                words = line.split()
                if words and words[0] == RESULT:
                    measured[part, num_ranks, words[1]] = float(words[2])
                else:
                    print(line, flush=True)
    for (part, num_ranks, shape), ms in measured.items():
        half = measured.get((part, num_ranks // 2, shape))
        if half is not None:
            print(f"{part} {shape}: {num_ranks} ÷ {num_ranks // 2} ranks: {half / ms:.2f}")


def started(part: str, num_ranks: int) -> Sequence[str]:
    """What rank 0 prints; of a part that fails, what all print last."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "tests.benchmarks.cuda_parallel", part, "--rank"]
    processes = []
    began_at = time.monotonic()
    logs = [tempfile.TemporaryFile("w+") for _ in range(num_ranks)]  # noqa: SIM115
    for rank, log in zip(range(1 if part == "text" else num_ranks), logs, strict=False):
        processes.append(
            subprocess.Popen(
                [*command, str(rank), str(num_ranks), str(port)],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )
    until = began_at + PART_SECONDS.get(part, 110.0)
    while time.monotonic() < until and any(process.poll() is None for process in processes):
        if any(process.poll() not in (None, 0) for process in processes):
            until = min(until, time.monotonic() + 3.0)  # the others wait for it
        time.sleep(0.1)
    statuses = [process.poll() for process in processes]
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    lines = []
    for rank, (status, log) in enumerate(zip(statuses, logs, strict=False)):
        log.seek(0)
        said = log.read().splitlines()
        if rank == 0:
            lines += [line.removeprefix("= ") for line in said if line.startswith("= ")]
        if status != 0:
            lines.append(f"{part} with {num_ranks} ranks: rank {rank} ended with {status}:")
            lines += [f"    {line}" for line in said[-25:]]
    lines.append(f"({part}, {num_ranks} ranks: {time.monotonic() - began_at:.0f} s)")
    return lines


def say(sentence: str) -> None:
    print(f"= {sentence}", flush=True)


def run_rank(part: str, rank: int, num_ranks: int, port: int) -> None:
    """One process of a part; it ends at once, as NCCL may wait for others at a usual end."""
    status = 1
    try:
        if part == "text":
            compare_texts(num_ranks)
        elif part == "sums":
            time_sums(joined(rank, num_ranks, port))
        else:
            time_rounds(part, rank, num_ranks, port)
        status = 0
    except BaseException:  # noqa: BLE001 (the parent tells of it)
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def joined(rank: int, num_ranks: int, port: int) -> Any:
    """The group of all ranks, each on its own GPU; None for one."""
    from verifier.target.rank_place import RankPlace
    from verifier.torch_target.parallel.rank_group import RankGroup

    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    if num_ranks == 1:
        return None
    return RankGroup(RankPlace(rank, num_ranks, port), device)


def time_sums(group: Any) -> None:
    """One sum over the ranks: NCCL's, and ours with all that it copies, in graphs of 64."""
    from torch import distributed

    ways = (distributed.all_reduce, group.add_up)
    for hidden in (4096, 8192):
        for num_tokens in SUMS:
            values = torch.zeros(1, num_tokens, hidden, dtype=torch.bfloat16, device="cuda")
            times = [graph_ms(lambda way=way, v=values: way(v), 64) / 64 * 1e3 for way in ways]
            if group.rank == 0:
                told = ", ".join(f"{microseconds:.1f} µs" for microseconds in times)
                say(f"sum of {num_tokens} × {hidden} over {group.num_ranks}: NCCL, ours: {told}")


def time_rounds(part_name: str, rank: int, num_ranks: int, port: int) -> None:
    """Rows of one shape's table."""
    from tests.benchmarks.cuda_round import read_bandwidth
    from verifier.torch_target.forward.block_cache import CacheShape
    from verifier.torch_target.loading.placement import place_target
    from verifier.torch_target.precision.quantisation import quantise

    name = part_name.partition("-")[0]
    torch.cuda.set_device(rank)
    bandwidth = read_bandwidth()
    torch.cuda.empty_cache()
    group = joined(rank, num_ranks, port)
    config = rank_shape(name, num_ranks)
    layers = config.num_hidden_layers
    bounds = {}
    for num_streams, num_query, context in SHAPES[name]:
        num_tokens = num_streams * num_query
        products = products_ms(config, num_tokens, num_ranks)
        of_token = 2 * 2 * config.num_key_value_heads * config.head_dim * layers
        cache = 1e3 * num_streams * (context + num_query) * of_token / bandwidth
        sums = logits = 0.0
        if group is not None:
            rows = torch.zeros(
                1, num_tokens, config.hidden_size, dtype=torch.bfloat16, device="cuda"
            )
            sums = graph_ms(lambda rows=rows: group.add_up(rows), 2 * layers)
            part = rows.new_zeros(1, num_tokens, VOCABULARY // num_ranks)
            logits = graph_ms(lambda part=part: group.gather(part), 1)
        bounds[num_streams, num_query, context] = products, cache, sums, logits
    torch.cuda.empty_cache()
    began_at = time.monotonic()
    model = made(config, num_ranks)
    if part_name in QUANTISED:
        quantise(model, QUANTISED[part_name], torch.device("cuda", rank))
        torch.cuda.empty_cache()
    target = place_target(
        model,
        CacheShape(num_blocks=MOST_CACHED[name] // 16, block_tokens=16, context_tokens=8192),
        device=torch.device("cuda", rank),
        dtype=torch.bfloat16,
        model_name="random",
        group=group,
    )
    torch.cuda.synchronize()
    load_seconds = time.monotonic() - began_at
    for shape, bound in bounds.items():
        forward_ms, step_ms = measured_ms(target, *shape)
        if rank == 0:
            row = f"{shape[0]} × {shape[1]} at {shape[2]}"
            cells = [f"{ms:.2f}" for ms in (*bound, forward_ms)]
            over = forward_ms / sum(bound)
            say(f"| {num_ranks} | {row} | {' | '.join(cells)} | {over:.3f} | {step_ms:.2f} |")
            say(f"{RESULT} {shape[0]}×{shape[1]} {forward_ms}")
    if rank == 0:
        gib = torch.cuda.max_memory_allocated() / (1 << 30)
        fused = [type(layer.forward).__name__ for layer in model.model.layers[:1]]
        say(f"({gib:.1f} GiB on GPU 0, made in {load_seconds:.0f} s, a layer is a {fused[0]})")


def rank_shape(name: str, num_ranks: int) -> Any:
    from transformers import LlamaConfig

    from verifier.torch_target.parallel.split import rank_config

    config = LlamaConfig(
        **SIZES[name], vocab_size=VOCABULARY, max_position_embeddings=8192, rope_theta=500_000.0
    )
    return rank_config(config, num_ranks)


def products_ms(config: Any, num_tokens: int, num_ranks: int) -> float:
    """All of a rank's merged products."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim

    def random(*size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.bfloat16, device="cuda").normal_(0, 0.02)

    sizes = ((queries + 2 * keys, hidden), (hidden, queries), (2 * inner, hidden), (hidden, inner))
    weights = [random(*size) for _ in range(MEASURED_LAYERS) for size in sizes]
    inputs = {size: random(num_tokens, size) for size in {hidden, queries, inner}}

    def layers() -> None:
        for weight in weights:
            inputs[weight.shape[1]] @ weight.t()

    head = random(VOCABULARY // num_ranks, hidden)
    of_layers = graph_ms(layers, 1) * config.num_hidden_layers / MEASURED_LAYERS
    return of_layers + graph_ms(lambda: inputs[hidden] @ head.t(), 1)


def made(config: Any, num_ranks: int) -> Any:
    """A rank's model with random weights, the same on all ranks."""
    from torch import nn
    from transformers import LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config.tie_word_embeddings = False
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config)
        model.lm_head = nn.Linear(config.hidden_size, VOCABULARY // num_ranks, bias=False)
    model.to(torch.bfloat16).to_empty(device="cuda")
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.02)
    model.model.rotary_emb = LlamaRotaryEmbedding(config).to("cuda")
    return model


def measured_ms(target: Any, num_streams: int, num_query: int, context: int) -> tuple[float, float]:
    """The graph alone, and the pass with all that leads to it; all ranks do the same."""
    from shared.speculation.sampling import GREEDY
    from verifier.target.round import DraftCheck, Round, RoundItem

    num_blocks = -(-(context + num_query) // 16)
    drafts = (7,) * (num_query - 1)
    items = tuple(
        RoundItem(
            stream,
            (7,) * num_query,
            context,
            tuple(range(stream * num_blocks, (stream + 1) * num_blocks)),
            DraftCheck(drafts, (), "coupled", GREEDY, stream, 0, True),
        )
        for stream in range(num_streams)
    )
    for _ in range(3):
        target.follow(Round(items))
    steps = []
    for _ in range(20):
        began_at = time.perf_counter()
        target.follow(Round(items))
        steps.append(1e3 * (time.perf_counter() - began_at))
    captured = list(target._forward._graphs._captured.values())[-1]
    return timed_ms(captured.graph.replay), sorted(steps)[len(steps) // 2]


def graph_ms(action: Callable[[], object], number: int) -> float:
    """So many in one graph; NCCL's own thread may ask the GPU meanwhile."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        with torch.cuda.stream(side):
            action()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            for _ in range(number):
                action()
    return timed_ms(graph.replay)


def timed_ms(action: Callable[[], object]) -> float:
    for _ in range(5):
        action()
    torch.cuda.synchronize()
    began_at = time.perf_counter()
    for _ in range(30):
        action()
    torch.cuda.synchronize()
    return (time.perf_counter() - began_at) / 30 * 1e3


def small_model() -> Any:
    """Of transformers, with random weights; 8 heads of each kind can be split."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=512,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=8,
        vocab_size=1000,
        max_position_embeddings=2048,
        initializer_range=0.1,
    )
    return LlamaForCausalLM(config)


def compare_texts(num_ranks: int) -> None:
    """Real processes: text of a worker with several GPUs, and what becomes of a killed rank."""
    from tests.support.models.tiny_checkpoint import write_checkpoint

    with tempfile.TemporaryDirectory() as directory:
        write_checkpoint(small_model(), Path(directory))
        for dtype in ("float32", "bfloat16"):
            compare_texts_in(dtype, directory, num_ranks)


def compare_texts_in(dtype: str, directory: str, num_ranks: int) -> None:
    from shared.config.sections import load_config
    from shared.speculation.sampling import GREEDY
    from tests.support.models.drafted_streams import DraftedStreams
    from verifier.config import VerifierConfig
    from verifier.startup import target_settings
    from verifier.torch_target.loading.target_loading import load_target
    from verifier.worker_sources import KEPT_COMMAND
    from verifier.workers.local_worker import LocalWorker
    from verifier.workers.orders import WorkerOrder

    prompts = [[(37 * i + 11 * j) % 900 for j in range(40)] for i in range(6)]
    settings: dict[str, object] = {
        "target.model": directory,
        "target.device": "cuda",
        "target.dtype": dtype,
        "target.context_tokens": 1024,
        "target.kv_cache_tokens": 4096,
        "rounds.max_round_tokens": 128,
        "rounds.prefill_chunk_tokens": 128,
    }
    order = WorkerOrder("worker 0", "s" * 43, {**settings, "workers.gpus_per_worker": num_ranks})
    worker = LocalWorker(order, KEPT_COMMAND, dict(os.environ), lambda round_: 30.0)
    try:
        worker.start()
        own: VerifierConfig = load_config(VerifierConfig, overrides=settings).config
        whole = load_target(Path(directory), target_settings(own)).target
        expected = DraftedStreams(whole, prompts, [[]] * len(prompts), GREEDY).run(0)
        began_at = time.monotonic()
        target: Any = worker.reach()
        say(f"{target.facts.hardware} reached after {time.monotonic() - began_at:.1f} s more")
        # With drafts one GPU adds up in another order, too, which 16 bits show.
        for name, of in ((f"{num_ranks} GPUs", target), ("1 GPU", whole)):
            texts = DraftedStreams(of, prompts, expected, GREEDY).run(8)
            num_equal = sum(a == b for a, b in zip(texts, expected, strict=True))
            same = sum(common_tokens(a, b) for a, b in zip(texts, expected, strict=True))
            say(
                f"{dtype}, {name} with drafts against 1 GPU without: {num_equal} of "
                f"{len(prompts)} greedy texts are equal, the first {same / len(prompts):.1f} tokens"
            )
        if dtype == "float32":
            target = with_a_killed_rank(worker, target)
            texts = DraftedStreams(target, prompts, expected, GREEDY).run(8)
            say(f"started anew, {sum(a == b for a, b in zip(texts, expected, strict=True))} equal")
    finally:
        worker.close()


def common_tokens(one: Sequence[int], other: Sequence[int]) -> int:
    differing = [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    return differing[0] if differing else len(one)


def with_a_killed_rank(worker: Any, target: Any) -> Any:
    """The worker's target after it was started anew."""
    from shared.errors import GoodspeedError
    from shared.speculation.sampling import GREEDY
    from tests.support.programs.children import children_of
    from verifier.target.round import DraftCheck, Round, RoundItem
    from verifier.target.target import TargetLost

    check = DraftCheck((), (), "coupled", GREEDY, seed=0, position=0, draws_bonus=True)
    one_token = Round((RoundItem(0, (5,), 0, (0,), check),))
    began_at = time.monotonic()
    os.kill(children_of(target.facts.process_id, "kept_rank")[0], signal.SIGKILL)
    try:
        while time.monotonic() < began_at + 20:
            target.run(one_token)
        say("a killed rank was not noticed in 20 s")
    except TargetLost as error:
        say(f"a killed rank: lost after {time.monotonic() - began_at:.3f} s: {error}")
    while True:
        try:
            return worker.reach(target)
        except GoodspeedError:
            time.sleep(0.1)


if __name__ == "__main__":
    main()
