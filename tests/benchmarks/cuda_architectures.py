"""Every architecture of the table on a GPU: is it served, and is its text transformers' own?

Tiny models with random weights, as the tests on a CPU have them; transformers runs in float32 on
the CPU. Their texts are compared up to the first token that differs: in 16 bits one may, for the
logits of random weights lie close together. By hand:
`python -m tests.benchmarks.cuda_architectures`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from shared.errors import GoodspeedError
from shared.speculation.sampling import GREEDY
from tests.support.models.architecture_texts import generated, prompts_of
from tests.support.models.architectures import ARCHITECTURES, Architecture
from tests.support.models.drafted_streams import DraftedStreams
from tests.support.models.target_loading import load_on_cpu
from tests.support.models.tiny_checkpoint import tiny_model, write_checkpoint

NUM_TOKENS = 24


def main() -> None:
    """Print the table."""
    print("| architecture | float32 | bfloat16 |")
    print("|---|---|---|")
    for architecture in ARCHITECTURES:
        if not architecture.refusal:
            model = tiny_model(architecture)
            cells = [_cell(architecture, model, dtype) for dtype in ("float32", "bfloat16")]
            print(f"| {architecture.name} | {' | '.join(cells)} |", flush=True)


def _cell(architecture: Architecture, model: Any, dtype: str) -> str:
    """Tokens that agree, of all; or why there are none."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            num_same, num_tokens = _same_tokens(architecture, model, Path(directory), dtype)
        except GoodspeedError as error:
            return f"refused: {error}"
        except Exception as error:  # noqa: BLE001  # a row of the table, whatever it is
            return f"**{type(error).__name__}**: {str(error).splitlines()[0][:200]}"
    return f"{num_same} of {num_tokens}"


def _same_tokens(
    architecture: Architecture, model: Any, directory: Path, dtype: str
) -> tuple[int, int]:
    write_checkpoint(model, directory)
    prompts = prompts_of(architecture)
    room = architecture.context_tokens - max(architecture.prompt_lengths) - 1
    num_tokens = min(NUM_TOKENS, room)
    expected = [generated(model, prompt, num_tokens) for prompt in prompts]
    placed = load_on_cpu(
        directory,
        device="cuda",
        dtype=dtype,
        context_tokens=architecture.context_tokens,
        kv_cache_tokens=2048,
    )
    streams = DraftedStreams(placed.target, prompts, expected, GREEDY, num_tokens)
    texts = streams.run(8)
    pairs = zip(texts, expected, strict=True)
    return sum(_num_same(ours, theirs) for ours, theirs in pairs), num_tokens * len(prompts)


def _num_same(ours: list[int], theirs: list[int]) -> int:
    for number, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        if our != their:
            return number
    return len(theirs)


if __name__ == "__main__":
    main()
