"""Tokens per second of one verifier over several workers, each with a GPU: Llama-3.1-8B's shape.

Real programs and sockets: `goodspeed-verifier run --workers N` on a checkpoint of random weights
that is written first (16 GB), and for each worker a `goodspeed-agent fleet` with so many boards.
They guess, so that nearly every draft is rejected: what is measured is rounds, the verifier's
process and its sockets. The last column is what that process, without its workers and doors, takes
of a core for each token. By hand, on a machine with several GPUs:

    python -m tests.benchmarks.cuda_workers --workers 1 4 --doors 0 2

With several numbers of doors each number of workers is measured with each, one after the other.
Anywhere, with a tiny model on a CPU: `… --tiny --workers 1 2`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.support.models.tiny_checkpoint import write_checkpoint
from tests.support.models.tiny_models import tiny_llama
from tests.support.programs.command import LAUNCHERS, ROOT, environment
from tests.support.programs.programs import Programs

FLEET = (sys.executable, "-c", "from edge_agent.cli import main; main()", "fleet")
RAMP_UP_SECONDS = 5
COLUMNS = (
    *("workers", "doors", "streams", "tokens/s", "× the first row", "least Jain index"),
    *("pause p50 ms", "pause p99 ms", "first token p50 ms", "errors", "us of the verifier"),
)
WAITS = (("pause", "p50"), ("pause", "p99"), ("first_token", "p50"))
LOAD_SECONDS = 400.0


def main() -> None:
    """Print one table."""
    options = _options()
    with tempfile.TemporaryDirectory() as directory:
        checkpoint = Path(directory) / "random"
        began_at = time.monotonic()
        _write_model(checkpoint, is_tiny=options.tiny)
        print(f"wrote the checkpoint in {time.monotonic() - began_at:.0f} s", flush=True)
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
        first = 0.0
        for num_workers, num_doors in itertools.product(options.workers, options.doors):
            reports, core_seconds = _measure(checkpoint, num_workers, num_doors, options)
            speed = sum(report["tokens_per_second"] for report in reports)
            first = first or speed
            jain = min(report["jain_fairness"] for report in reports)
            cells = [
                *(str(num_workers), str(num_doors), str(max(num_workers, 1) * options.streams)),
                *(f"{speed:,.0f}", f"{speed / first:.2f}", f"{jain:.3f}"),
                *(_worst(reports, *kind) for kind in WAITS),
                str(sum(sum(report["errors"].values()) for report in reports)),
                f"{1e6 * core_seconds / sum(report['output_tokens'] for report in reports):.0f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)
            if options.verbose:
                print(json.dumps(reports))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1, 4], help="0: the verifier's own process"
    )
    parser.add_argument(
        "--doors", type=int, nargs="+", default=[0], help="processes for websockets"
    )
    parser.add_argument("--streams", type=int, default=64, help="for each worker")
    parser.add_argument("--minutes", type=float, default=0.5, help="for each number of workers")
    parser.add_argument("--output-tokens", type=int, default=1000, help="of each stream")
    parser.add_argument("--tiny", action="store_true", help="a tiny model on a CPU")
    parser.add_argument("--verbose", action="store_true", help="print the fleet's whole report")
    return parser.parse_args()


def _write_model(directory: Path, *, is_tiny: bool) -> None:
    if is_tiny:
        model: Any = tiny_llama()
    else:
        # Its module imports kernels, which a run on a CPU cannot always do.
        from tests.benchmarks.cuda_round import llama_shape

        model = llama_shape()
    write_checkpoint(model, directory)
    del model
    if not is_tiny:
        torch.cuda.empty_cache()


def _measure(
    checkpoint: Path, num_workers: int, num_doors: int, options: argparse.Namespace
) -> tuple[list[dict[str, Any]], float]:
    """The fleets' reports with so many workers, and the verifier's seconds of a core meanwhile."""
    num_fleets = max(num_workers, 1)
    num_boards = num_fleets * options.streams
    with tempfile.TemporaryDirectory() as directory:
        programs = Programs(Path(directory))
        token_files = []
        for number in range(num_fleets):
            names = [f"load-{number}-{i}" for i in range(options.streams)]
            token_files.append(Path(directory) / f"fleet-tokens-{number}")
            token_files[-1].touch(0o600)
            tokens = [programs.token_file(name).read_text() for name in names]
            token_files[-1].write_text("\n".join(tokens))
        settings: dict[str, object] = {
            "target.model": str(checkpoint),
            "target.device": "cpu" if options.tiny else "cuda",
            "target.context_tokens": 2048,
            "server.max_connections": num_boards + 16,
            "server.doors": num_doors,
        }
        if num_workers:
            settings["workers.local"] = num_workers
        verifier = programs.verifier((*LAUNCHERS, "verifier"), settings)
        try:
            verifier.start()
            verifier.wait_for(lambda: verifier.is_ready, "was not ready", LOAD_SECONDS)
            return _load(verifier.port, verifier.process_id, token_files, options)
        finally:
            programs.stop()


def _load(
    port: int, process_id: int, token_files: Sequence[Path], options: argparse.Namespace
) -> tuple[list[dict[str, Any]], float]:
    fleets = [
        subprocess.Popen(
            [
                *FLEET,
                *("--verifier", f"ws://127.0.0.1:{port}", "--tokens", str(tokens)),
                *("--think", "0", "--output-tokens", str(options.output_tokens)),
                *("--draft-speed", "20", "--ramp-up", str(RAMP_UP_SECONDS)),
                *("--minutes", str(options.minutes), "--json"),
            ],
            cwd=ROOT,
            env=environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for tokens in token_files
    ]
    # Somewhat after the ramp-up and before the end, as a share of the time that is measured.
    time.sleep(RAMP_UP_SECONDS + 10.0 * options.minutes)
    before = _core_seconds(process_id)
    time.sleep(30.0 * options.minutes)
    core_seconds = 2.0 * (_core_seconds(process_id) - before)
    outputs = [fleet.communicate()[0] for fleet in fleets]
    if any(fleet.returncode for fleet in fleets):
        raise SystemExit("a fleet failed")
    return [json.loads(output) for output in outputs], core_seconds


def _core_seconds(process_id: int) -> float:
    """What the process has taken of cores, its children apart."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _worst(reports: Sequence[dict[str, Any]], wait: str, part: str) -> str:
    found = [report[wait][part] for report in reports if report[wait][part] is not None]
    return f"{1e3 * max(found):.1f}" if found else "–"


if __name__ == "__main__":
    main()
