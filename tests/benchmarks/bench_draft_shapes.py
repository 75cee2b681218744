"""What a draft's shape costs a board: time of a token over bytes that are read and layers.

`python -m tests.benchmarks.bench_draft_shapes TARGET.gguf` writes drafts with random weights and
the target's vocabulary, lets llama.cpp run them in turn with the target itself on one thread, and
fits time = (bytes + layers × layer_bytes) / speed. `verifier.finetune.recipe.draft_speed` keeps
`layer_bytes`. By processor time, so that other work on the machine counts less.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edge_agent.draft_model.drafter import Forward
from edge_agent.draft_model.llama_drafter import LlamaDrafter
from verifier.finetune.llama.gguf_draft import write_draft
from verifier.finetune.llama.gguf_target import llama_shape
from verifier.finetune.llama.llama_model import LlamaModel
from verifier.finetune.llama.narrow_start import draft_llama_shape
from verifier.finetune.recipe.draft_shape import parse_shape
from verifier.torch_target.model_files.gguf_header import read_gguf_header

SHAPES = ("128x4x320", "256x4x640", "256x8x640", "384x6x960", "512x12x1280")
KINDS = ("Q4_0", "Q8_0")
REPEATS, TOKENS, PROMPT_TOKENS = 5, 16, 64


def main() -> None:
    """Print a row for each file, and the fit."""
    target = Path(sys.argv[1])
    header = read_gguf_header(target)
    of_target = llama_shape(header)
    with tempfile.TemporaryDirectory() as directory:
        sizes = {target: (weight_bytes(target), of_target.layers)}
        for written in SHAPES:
            model = LlamaModel(draft_llama_shape(of_target, parse_shape(written)), 0)
            for kind in KINDS:
                path = Path(directory) / f"{written}-{kind}.gguf"
                write_draft(model, target, path, kind=kind, recipe="{}")
                sizes[path] = weight_bytes(path), model.shape.layers
        found: dict[Path, list[float]] = {path: [] for path in sizes}
        for _ in range(REPEATS):
            for path, times in found.items():
                times.append(token_seconds(path))
    print("| file | MB | layers | ms a token, median | least to most |\n|---|---|---|---|---|")
    for path, times in found.items():
        num_bytes, layers = sizes[path]
        print(
            f"| {path.stem} | {num_bytes / 1e6:.1f} | {layers} | {1e3 * np.median(times):.2f} | "
            f"{1e3 * min(times):.2f} to {1e3 * max(times):.2f} |"
        )
    tell_fit([(*sizes[path], float(np.median(found[path]))) for path in list(found)[1:]])


def tell_fit(rows: list[tuple[int, int, float]]) -> None:
    """Least squares of relative errors over (bytes, layers, seconds)."""
    seconds = np.array([row[2] for row in rows])
    columns = np.array([[row[0], row[1]] for row in rows]) / seconds[:, None]
    (per_byte, per_layer), *_ = np.linalg.lstsq(columns, np.ones(len(rows)), rcond=None)
    print(f"\n{1e-9 / per_byte:.1f} GB/s, a layer as {per_layer / per_byte / 1e6:.3f} MB")
    errors = columns @ [per_byte, per_layer] - 1
    print("off by", ", ".join(f"{100 * error:+.0f} %" for error in errors))


def weight_bytes(path: Path) -> int:
    """Of all tensors of a file."""
    return sum(tensor.num_bytes for tensor in read_gguf_header(path).tensors)


def token_seconds(path: Path) -> float:
    """Of one token after the other, by processor time."""
    drafter = LlamaDrafter(path, 1, PROMPT_TOKENS + TOKENS + 8, 1, 1)
    try:
        drafter.forward([Forward(0, tuple(range(100, 100 + PROMPT_TOKENS)))])
        began = time.process_time()
        for token_id in range(TOKENS):
            drafter.forward([Forward(0, (500 + token_id,))])
        return (time.process_time() - began) / TOKENS
    finally:
        drafter.close()


if __name__ == "__main__":
    main()
