"""AWC's network as a file: its weights, and where they come from.

A few kilobytes of JSON with a version, so that a person can read what it was trained on.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from shared.errors import ConfigError
from shared.speculation.goodput import FloatArray
from verifier.policies.awc import ALL_INPUTS, PAPER_INPUTS, AwcWeights

VERSION = 1
DIGITS = 5
# With all inputs: of streams that never wait, and of such as wait for their own draft.
SHIPPED = Path(__file__).with_name("awc_weights.json")
SHIPPED_WAITING = Path(__file__).with_name("awc_waiting_weights.json")

_Row = tuple[float, ...]
_Matrix = tuple[_Row, ...]


class AwcFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file holds."""

    version: int
    command: str
    seed: int
    situations: int
    held_out_error: float
    middle_error: float
    fused_part: float
    into: _Matrix
    into_bias: _Row
    blocks: tuple[tuple[_Matrix, _Row, _Matrix, _Row], ...]
    out: _Row
    out_bias: float


def file_of(
    weights: AwcWeights,
    *,
    command: str,
    seed: int,
    situations: int,
    held_out_error: float,
    middle_error: float,
    fused_part: float,
) -> bytes:
    """The bytes of the file."""
    content = AwcFile(
        version=VERSION,
        command=command,
        seed=seed,
        situations=situations,
        held_out_error=round(held_out_error, 3),
        middle_error=round(middle_error, 3),
        fused_part=round(fused_part, 3),
        into=_matrix(weights.into),
        into_bias=_row(weights.into_bias),
        blocks=tuple(
            (_matrix(first), _row(first_bias), _matrix(second), _row(second_bias))
            for first, first_bias, second, second_bias in weights.blocks
        ),
        out=_row(weights.out),
        out_bias=round(weights.out_bias, DIGITS),
    )
    return msgspec.json.encode(content) + b"\n"


def read_weights(path: Path = SHIPPED) -> tuple[AwcWeights, AwcFile]:
    """The network of a file.

    Raises:
        ConfigError: it cannot be read, is of another version, or has parts that do not fit.
    """
    try:
        content = msgspec.json.decode(path.read_bytes(), type=AwcFile)
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError((f"{path}:1: is no file of AWC's weights: {error}",)) from None
    problems = tuple(f"{path}:1: {words}" for words in _misfits(content))
    if problems:
        raise ConfigError(problems)
    blocks = tuple(
        (np.array(first), np.array(first_bias), np.array(second), np.array(second_bias))
        for first, first_bias, second, second_bias in content.blocks
    )
    out, into_bias = np.array(content.out), np.array(content.into_bias)
    return AwcWeights(np.array(content.into), into_bias, blocks, out, content.out_bias), content


def _misfits(content: AwcFile) -> list[str]:
    if content.version != VERSION:
        return [f"version = {content.version}: must be {VERSION}; `train-awc` writes another file"]
    width = len(content.into_bias)
    num_inputs = min(max(len(content.into), PAPER_INPUTS), ALL_INPUTS)
    found: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = [
        ("into", _shape(content.into), (num_inputs, width)),
        ("out", (len(content.out),), (width,)),
    ]
    for number, (first, first_bias, second, second_bias) in enumerate(content.blocks):
        for name, matrix, row in (("first", first, first_bias), ("second", second, second_bias)):
            found.append((f"blocks[{number}], {name}", _shape(matrix), (width, width)))
            found.append((f"blocks[{number}], {name} bias", (len(row),), (width,)))
    return [
        f"{key}: has the shape {shape}, must be {expected}"
        for key, shape, expected in found
        if shape != expected
    ]


def _shape(matrix: _Matrix) -> tuple[int, ...]:
    """Of a matrix; where its rows differ, that of its rows alone."""
    lengths = {len(row) for row in matrix}
    return (len(matrix), *lengths) if len(lengths) == 1 else (len(matrix),)


def _row(part: FloatArray) -> _Row:
    return tuple(np.round(part, DIGITS).tolist())


def _matrix(part: FloatArray) -> _Matrix:
    return tuple(_row(row) for row in part)
