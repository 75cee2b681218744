"""Tokens per second of one verifier over several workers, each with a GPU: Llama-3.1-8B's shape.

Real programs and sockets: `goodspeed-verifier run --workers N` on a checkpoint of random weights
that is written first (16 GB), and `goodspeed-agent fleet` with so many boards for each worker. Its
boards guess, so that nearly every draft is rejected: what is measured is rounds, the verifier's
process and its sockets. By hand, on a machine with several GPUs:

    python -m tests.benchmarks.cuda_workers --workers 1 4

Anywhere, with a tiny model on a CPU: `… --tiny --workers 1 2`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
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
    *("workers", "streams", "tokens/s", "× the first row", "Jain index of boards"),
    *("pause p50 ms", "pause p99 ms", "first token p50 ms", "errors"),
)
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
        for num_workers in options.workers:
            report = _measure(checkpoint, num_workers, options)
            speed = report["tokens_per_second"]
            first = first or speed
            pause, first_token = report["pause"], report["first_token"]
            cells = [
                *(str(num_workers), str(max(num_workers, 1) * options.streams)),
                *(f"{speed:,.0f}", f"{speed / first:.2f}", f"{report['jain_fairness']:.3f}"),
                *(_milliseconds(one) for one in (pause["p50"], pause["p99"], first_token["p50"])),
                str(sum(report["errors"].values())),
            ]
            print(f"| {' | '.join(cells)} |", flush=True)
            if options.verbose:
                print(json.dumps(report))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1, 4], help="0: the verifier's own process"
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


def _measure(checkpoint: Path, num_workers: int, options: argparse.Namespace) -> dict[str, Any]:
    """The fleet's report with so many workers."""
    num_boards = max(num_workers, 1) * options.streams
    with tempfile.TemporaryDirectory() as directory:
        programs = Programs(Path(directory))
        tokens = Path(directory) / "fleet-tokens"
        tokens.touch(0o600)
        names = [f"load-{i}" for i in range(num_boards)]
        tokens.write_text("\n".join(programs.token_file(name).read_text() for name in names))
        settings: dict[str, object] = {
            "target.model": str(checkpoint),
            "target.device": "cpu" if options.tiny else "cuda",
            "target.context_tokens": 2048,
            "server.max_connections": num_boards + 16,
        }
        if num_workers:
            settings["workers.local"] = num_workers
        verifier = programs.verifier((*LAUNCHERS, "verifier"), settings)
        try:
            verifier.start()
            verifier.wait_for(lambda: verifier.is_ready, "was not ready", LOAD_SECONDS)
            return _load(verifier.port, tokens, options)
        finally:
            programs.stop()


def _load(port: int, tokens: Path, options: argparse.Namespace) -> dict[str, Any]:
    command = [
        *FLEET,
        *("--verifier", f"ws://127.0.0.1:{port}", "--tokens", str(tokens)),
        *("--think", "0", "--output-tokens", str(options.output_tokens), "--draft-speed", "20"),
        *("--ramp-up", str(RAMP_UP_SECONDS), "--minutes", str(options.minutes), "--json"),
    ]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SystemExit(f"the fleet ended with {ended.returncode}: {ended.stderr[-2000:]}")
    report: dict[str, Any] = json.loads(ended.stdout)
    return report


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1e3 * seconds:.1f}"


if __name__ == "__main__":
    main()
