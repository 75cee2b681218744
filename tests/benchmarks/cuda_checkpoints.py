"""Checkpoints of fewer bits on a GPU: each kind's product beside that of its widened weights.

Prints for each kind whether its numbers are kept, how far the product is off (beside bfloat16's own
rounding of the same weights), and its time beside whole weights'; then greedy text of a small model
in float16 against transformers' in float32. By hand, on a GPU, with `goodspeed[quantised]`
installed: `python -m tests.benchmarks.cuda_checkpoints`.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from shared.speculation.sampling import GREEDY
from tests.support.models.architecture_texts import generated, prompts_of
from tests.support.models.architectures import Architecture
from tests.support.models.packed_checkpoints import PACKINGS, Packing, pack_layer, write_packed
from tests.support.models.target_loading import load_on_cpu
from verifier.target.round import DraftCheck, Round, RoundItem
from verifier.torch_target.forward.torch_target import TorchTarget
from verifier.torch_target.model_files.checkpoint_scheme import read_scheme
from verifier.torch_target.precision.checkpoint_layouts import LayerTensors, read_weight
from verifier.torch_target.precision.checkpoint_products import obstacle, product_of

DEVICE = torch.device("cuda")
SHAPES = ((256, 512), (4096, 4096))
NUM_ROWS = (1, 8, 64)
SMALL = Architecture(
    "small",
    "llama",
    "nobody",
    {"hidden_size": 512, "intermediate_size": 1024, "num_attention_heads": 8, "head_dim": 64},
)


def main() -> None:
    """Print a row for each kind, shape and number of rows."""
    print(torch.cuda.get_device_name(0), "torch", torch.__version__)
    if "texts" not in sys.argv:
        print("| kind | weights | rows | off | bfloat16 off | ms | bfloat16 ms |")
        print("|---|---|---|---|---|---|---|")
        for packing in PACKINGS:
            for shape in SHAPES:
                products(packing, shape)
    kinds = set(sys.argv[1:]) - {"texts"}
    for packing in PACKINGS:
        if kinds and packing.name not in kinds:
            continue
        text(packing)
        gc.collect()  # a target took what was free for its cache: the next one wants it
        torch.cuda.empty_cache()


def products(packing: Packing, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = pack_layer(packing, 0.05 * torch.randn(shape))
    scheme = read_scheme(dict(packing.said), "random")
    assert scheme is not None
    weight = read_weight(LayerTensors(layer.tensors, "layer", "random"), scheme)
    reason = obstacle(weight, DEVICE, torch.bfloat16)
    if reason is not None:
        print(f"| {packing.name} | {shape[0]} × {shape[1]} | widened: {reason} |")
        return
    product = product_of(weight, None, DEVICE, torch.bfloat16)
    whole = layer.weight.to(DEVICE)
    narrow = whole.bfloat16()
    for num_rows in NUM_ROWS:
        rows = torch.randn(num_rows, shape[1], device=DEVICE, dtype=torch.bfloat16)
        exact = rows.float() @ whole.t()
        print(
            f"| {packing.name} | {shape[0]} × {shape[1]} | {num_rows} "
            f"| {off(product(rows), exact):.5f} | {off(rows @ narrow.t(), exact):.5f} "
            f"| {milliseconds(lambda x=rows: product(x)):.4f} "
            f"| {milliseconds(lambda x=rows: x @ narrow.t()):.4f} |",
            flush=True,
        )


def off(actual: Tensor, exact: Tensor) -> float:
    return float((actual.float() - exact).norm() / exact.norm())


def milliseconds(call: Callable[[], Tensor], times: int = 50) -> float:
    for _ in range(5):
        call()
    torch.cuda.synchronize()
    started_at = time.perf_counter()
    for _ in range(times):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - started_at) / times * 1e3


def text(packing: Packing) -> None:
    """Of a whole target: loading, merged projections, CUDA graphs."""
    with tempfile.TemporaryDirectory() as directory:
        model, _ = write_packed(packing, Path(directory), SMALL)
        placed = load_on_cpu(Path(directory), device="cuda", dtype="float16", context_tokens=128)
        prompt = prompts_of(SMALL)[0]
        expected = generated(model, prompt, 1)
        with torch.inference_mode():
            exact = model(torch.tensor([prompt])).logits[0, -1]
        logits = last_logits(placed.target, prompt).cpu()
        print(
            f"{packing.name}: logits off by {off(logits, exact):.4f}, "
            f"next token {int(logits.argmax())}, transformers' {expected[0]}",
            flush=True,
        )


def last_logits(target: TorchTarget, token_ids: list[int]) -> Tensor:
    check = DraftCheck((), (), "coupled", GREEDY, seed=0, position=0, draws_bonus=True)
    blocks = tuple(range(-(-len(token_ids) // target.block_tokens)))
    return target.logits(Round((RoundItem(0, tuple(token_ids), 0, blocks, check),)))[-1].float()


if __name__ == "__main__":
    main()
