"""Which shape a board runs fast enough, for the vocabulary of one target."""

from __future__ import annotations

from pathlib import Path

from verifier.finetune.recipe.draft_speed import (
    BOARDS,
    BoardSpeed,
    FittingShape,
    fitting_shape,
    measured_board,
)
from verifier.finetune.recipe.recipe import FileWeights
from verifier.torch_target.model_files.gguf_header import read_gguf_header


def shape_for_board(
    board: str | tuple[float, Path],
    target: Path,
    weights: FileWeights,
    wanted_tokens_per_second: float,
) -> FittingShape:
    """The largest draft for the target that is fast enough.

    `board`: a name in `BOARDS`, or tokens a second and the GGUF file that they were measured with.

    Raises:
        ModelError: a file is broken.
    """
    tokens = read_gguf_header(target).fields.get("tokenizer.ggml.tokens")
    vocab_size = len(tokens) if isinstance(tokens, list) else 0
    speed = BOARDS[board] if isinstance(board, str) else _measured(*board)
    return fitting_shape(speed, vocab_size, weights, wanted_tokens_per_second)


def _measured(tokens_per_second: float, model: Path) -> BoardSpeed:
    header = read_gguf_header(model)
    layers = header.number(f"{header.architecture}.block_count") or 0
    num_bytes = sum(tensor.num_bytes for tensor in header.tensors)
    return measured_board(tokens_per_second, num_bytes, layers)
