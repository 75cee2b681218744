"""Workers that Ray has placed on GPUs: their text against that of one process, with one killed.

The real keeper, Ray, workers and engines; streams without drafts, half of them greedy, half
sampled. A small model in float32 at a worker for each GPU and at workers of two GPUs each, and the
shape of Llama-3.1-8B in bfloat16 with `target.batch_invariant`, all with random weights. By hand,
on a machine with 2 or 4 GPUs:

    python -m tests.benchmarks.cuda_ray            # or only: small, pairs, 8b
    python -m tests.benchmarks.cuda_ray tiny       # anywhere: two workers on a CPU
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tests.support.ends.waiting import eventually
from tests.support.models.tiny_checkpoint import write_checkpoint
from tests.support.models.tiny_models import tiny_llama
from tests.verifier.engine.test_service import running
from tests.verifier.test_worker_startup import (
    NUM_STREAMS,
    PATIENCE_SECONDS,
    config_of,
    itself,
    one_of_its_ranks,
    texts,
    texts_meanwhile,
)
from verifier.config import VerifierConfig
from verifier.engine.many_workers import ManyWorkers
from verifier.engine.service import VerifierService
from verifier.startup import load_service
from verifier.worker_startup import load_service_of_workers

ON_GPU = {"target__device": "cuda", "target__threads": 0}
SETTINGS: dict[str, dict[str, object]] = {
    "tiny": {},
    "small": ON_GPU,
    "pairs": ON_GPU,
    "8b": {**ON_GPU, "target__dtype": "bfloat16", "target__batch_invariant": True},
}


def main() -> None:
    """Each kind after the other; a line for each."""
    words = sys.argv[1:]
    if words[:1] == ["alone"]:
        kind, model = words[1:]
        service = load_service(config_of(Path(model), **SETTINGS[kind]), lambda told: None)
        print(json.dumps(asyncio.run(texts(service))))
        return
    are_well = [compare(kind) for kind in words or ("small", "pairs", "8b")]
    sys.exit(0 if all(are_well) else 1)


def compare(kind: str) -> bool:
    """Whether all texts are equal, undisturbed and with a killed worker or rank."""
    with tempfile.TemporaryDirectory() as directory:
        write_checkpoint(made(kind), Path(directory))
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()
        expected = alone(kind, directory)
        num_gpus = torch.cuda.device_count() if kind in ("small", "pairs") else 2
        each = 2 if kind == "pairs" else 1
        own = {**SETTINGS[kind], "workers__ray": "local", "workers__on_ray": num_gpus // each}
        config = config_of(Path(directory), **own, workers__gpus_per_worker=each)
        return compare_on_ray(kind, config, expected, one_of_its_ranks if each > 1 else itself)


def made(kind: str) -> Any:
    """A model of transformers with random weights."""
    if kind == "tiny":
        return tiny_llama()
    if kind == "8b":
        # Its module imports kernels, which a run on a CPU cannot always do.
        from tests.benchmarks.cuda_round import llama_shape

        return llama_shape()
    from tests.benchmarks.cuda_parallel import small_model

    return small_model()


def alone(kind: str, directory: str) -> list[list[int]]:
    """The texts of one process, which has ended since, so that its GPU is free."""
    command = [sys.executable, "-m", "tests.benchmarks.cuda_ray", "alone", kind, directory]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    expected: list[list[int]] = json.loads(ended.stdout.splitlines()[-1])
    return expected


def compare_on_ray(
    kind: str,
    config: VerifierConfig,
    expected: Sequence[Sequence[int]],
    killed: Callable[[int], int],
) -> bool:
    """Print what came of it."""
    began_at = time.monotonic()
    service = load_service_of_workers(config, lambda told: None)
    workers = service.workers
    assert workers is not None
    devices = ", ".join(worker.target.facts.hardware for worker in workers.workers)
    print(f"{kind}: {devices}: serve after {time.monotonic() - began_at:.1f} s", flush=True)
    found, seconds = asyncio.run(_texts_with_a_kill(service, workers, killed))
    equal = [sum([a == b for a, b in zip(part, expected, strict=True)]) for part in found]
    print(
        f"{kind}: one killed, it serves again after {seconds:.1f} s; of {len(expected)} texts "
        f"those of one process: {equal[0]} beneath the kill, {equal[1]} after it",
        flush=True,
    )
    return equal == [len(expected)] * 2


async def _texts_with_a_kill(
    service: VerifierService, workers: ManyWorkers, killed: Callable[[int], int]
) -> tuple[list[list[list[int]]], float]:
    """The texts beneath it and after it, and the seconds until the worker serves again."""
    first = workers.workers[0]
    async with running(service):
        asking = asyncio.create_task(texts_meanwhile(service, killed))
        await eventually(lambda: first.num_lost == 1, PATIENCE_SECONDS)
        lost_at = time.monotonic()
        await eventually(lambda: first.is_serving, PATIENCE_SECONDS)
        seconds = time.monotonic() - lost_at
        return [await asking, await texts_meanwhile(service, first=NUM_STREAMS)], seconds


if __name__ == "__main__":
    main()
