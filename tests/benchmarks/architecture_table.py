"""Write the table of `docs/architectures.md` from the list of tested architectures.

By hand, where Triton is installed: `python -m tests.benchmarks.architecture_table`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.support.models.architectures import ARCHITECTURES, Architecture
from tests.support.models.tiny_checkpoint import tiny_model
from tests.support.models.triton_kernels import DEVICE
from verifier.torch_target.layers.fused_layers import fuse_layers

PAGE = Path(__file__).parents[2] / "docs" / "architectures.md"

_FIRST_CELL = "| architecture |"


def architecture_page() -> str:
    """The page as it is, with the table made anew."""
    text = PAGE.read_text().partition(_FIRST_CELL)[0]
    lines = [
        f"{_FIRST_CELL} `model_type` | models that people run | served | slower on a GPU |",
        "|---|---|---|---|---|",
    ]
    lines += [_row(architecture) for architecture in ARCHITECTURES]
    return text + "\n".join(lines) + "\n"


def _row(architecture: Architecture) -> str:
    served, slower = f"no: {architecture.refusal}", ""
    if not architecture.refusal:
        served, slower = "yes", ", ".join(_slow_parts(architecture)) or "nothing"
    name, examples = architecture.name, architecture.examples
    return f"| {name} | `{architecture.model_type}` | {examples} | {served} | {slower} |"


def _slow_parts(architecture: Architecture) -> list[str]:
    """What keeps the code of transformers on a GPU, in 16 bits."""
    model = tiny_model(architecture).half().to(DEVICE)
    source: Any = sys.modules[type(model).__module__]
    stock = getattr(source, "apply_rotary_pos_emb", None)
    slow = fuse_layers(model)
    if stock is not None:  # other models of this process keep their own
        source.apply_rotary_pos_emb = stock
    has_experts = any(parameter.dim() == 3 for parameter in model.parameters())
    return [*slow, "experts"] if has_experts else slow


if __name__ == "__main__":
    PAGE.write_text(architecture_page())
