"""Whether files and model have the same tensors: what is missing would be made up at random.

It must never accept a tensor whose weights do not come from the files.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from shared.errors import ModelError

_MAX_NAMES = 3  # in one sentence


def check_tensors(
    source: object, report: Mapping[str, Any], name_in_file: Callable[[str], str] = str
) -> None:
    """Refuse a model by the `loading_info` of transformers; tied weights are not missing.

    `name_in_file` is what the file calls a tensor of the model.

    Raises:
        ModelError: a tensor is missing, has another shape, or has no place in the model.
    """
    missing = {name_in_file(name) for name in report["missing_keys"]}
    if missing:
        raise ModelError(f"cannot load {source} as a target: it has no {_names(missing)}")
    for name, shape, expected in sorted(report["mismatched_keys"]):
        raise ModelError(
            f"cannot load {source} as a target: its {name_in_file(name)} has the shape "
            f"{_shape(shape)}, and what it says of itself needs {_shape(expected)}"
        )
    check_unexpected(source, report["unexpected_keys"])


def check_unexpected(source: object, unexpected: Collection[str]) -> None:
    """Refuse a model with tensors that would not be used.

    Raises:
        ModelError: there are such.
    """
    if unexpected:
        raise ModelError(
            f"cannot load {source} as a target: models of its type have no {_names(unexpected)}"
        )


def _names(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:_MAX_NAMES])
    num_more = len(names) - _MAX_NAMES
    return f"{shown} and {num_more} more" if num_more > 0 else shown


def _shape(sizes: Iterable[int]) -> str:
    return " × ".join(map(str, sizes))
