"""A model in one GGUF file or in several parts, as `llama-gguf-split` writes them.

It must never take a part for the whole: a model with missing tensors would make up their weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from shared.errors import ModelError
from verifier.torch_target.model_files.gguf_header import GgufHeader, GgufTensor, read_gguf_header

_PART_NAME = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")


class GgufModel(msgspec.Struct, frozen=True):
    """All parts of a model; the first one says what it is."""

    parts: tuple[GgufHeader, ...]

    @property
    def path(self) -> Path:
        """The first part, or the only one."""
        return self.parts[0].path

    @property
    def other_paths(self) -> tuple[Path, ...]:
        """All parts but the first."""
        return tuple(part.path for part in self.parts[1:])

    @property
    def fields(self) -> Mapping[str, object]:
        """What the model says of itself."""
        return self.parts[0].fields

    @property
    def tensors(self) -> tuple[GgufTensor, ...]:
        """Those of all parts."""
        return tuple(tensor for part in self.parts for tensor in part.tensors)

    @property
    def name(self) -> str:
        """The file's name without what numbers parts."""
        match = _PART_NAME.fullmatch(self.path.name)
        return match["stem"] if match and self.other_paths else self.path.stem


def check_head_counts(model: GgufModel) -> None:
    """All layers have as many attention heads, or else transformers cannot read the file.

    Raises:
        ModelError: they have different numbers of them.
    """
    architecture = model.parts[0].architecture
    for key in ("head_count", "head_count_kv"):
        counts = model.fields.get(f"{architecture}.attention.{key}")
        if isinstance(counts, list) and len(set(counts)) > 1:
            numbers = ", ".join(map(str, sorted(set(counts))))
            raise ModelError(
                f"{model.path} cannot be a target: its layers have different numbers of attention "
                f"heads ({architecture}.attention.{key}: {numbers})"
            )


def read_gguf_model(path: Path) -> GgufModel:
    """The heads of all parts of a model; `path` is the first one, or the whole.

    Raises:
        ModelError: a part is missing or broken, or does not belong to the others.
    """
    first = read_gguf_header(path)
    num_parts = first.number("split.count") or 1
    if num_parts == 1:
        return GgufModel((first,))
    paths = _part_paths(path, num_parts)
    number = first.number("split.no") or 0
    if number:
        raise ModelError(
            f"{path} is part {number + 1} of {num_parts}: name the first one, {paths[0].name}"
        )
    missing = [part.name for part in paths if not part.exists()]
    if missing:
        raise ModelError(
            f"{path} is the first of {num_parts} parts, and beside it there is no "
            f"{' and no '.join(missing)}"
        )
    model = GgufModel((first, *map(read_gguf_header, paths[1:])))
    _check_parts(model)
    return model


def _part_paths(path: Path, num_parts: int) -> list[Path]:
    match = _PART_NAME.fullmatch(path.name)
    if match is None or int(match["count"]) != num_parts:
        raise ModelError(
            f"{path} is one of {num_parts} parts, and its name does not tell the others': "
            f"they must be NAME-00001-of-{num_parts:05}.gguf and so on"
        )
    names = (f"{match['stem']}-{i + 1:05}-of-{num_parts:05}.gguf" for i in range(num_parts))
    return [path.with_name(name) for name in names]


def _check_parts(model: GgufModel) -> None:
    num_parts = len(model.parts)
    for number, part in enumerate(model.parts):
        if (part.number("split.no"), part.number("split.count")) != (number, num_parts):
            raise ModelError(f"{part.path} is not part {number + 1} of {num_parts} by its own word")
    num_promised, num_there = model.parts[0].number("split.tensors.count"), len(model.tensors)
    if num_promised is not None and num_promised != num_there:
        raise ModelError(
            f"the {num_parts} parts of {model.path} have {num_there} tensors instead of "
            f"{num_promised}"
        )
