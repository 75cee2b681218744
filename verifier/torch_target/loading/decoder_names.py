"""How a tokenizer of transformers spells its tokens, by what its decoder does to them.

It must never judge by the names themselves: a vocabulary of bytes may hold SentencePiece's mark.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from shared.errors import ModelError
from verifier.torch_target.loading.token_names import byte_level_bytes, byte_of_name, plain_bytes

_Step = dict[str, Any]


def name_reader(tokenizer: Any) -> Callable[[str], bytes]:
    """From a token's name to its bytes, wherever in a text it stands.

    Raises:
        ModelError: the tokenizer does not say what its tokens' bytes are.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(
            f"a tokenizer of the kind {type(tokenizer).__name__} does not say which bytes its "
            "tokens are; a tokenizer.json beside the model does"
        )
    steps = _steps(backend.decoder) or _steps(backend.pre_tokenizer)
    kinds = {step["type"] for step in steps}
    if "ByteLevel" in kinds:
        return byte_level_bytes
    replacements = [pair for step in steps if (pair := _replacement(step)) is not None]
    has_byte_names = "ByteFallback" in kinds

    def read(name: str) -> bytes:
        byte = byte_of_name(name) if has_byte_names else None
        if byte is not None:
            return byte
        for old, new in replacements:
            name = name.replace(old, new)
        return plain_bytes(name)

    return _word_pieces(steps) or read


def _steps(part: Any) -> list[_Step]:
    """What a part of a tokenizer does, step by step; sequences are taken apart."""
    if part is None:
        return []
    found: _Step = json.loads(part.__getstate__())
    for name in ("decoders", "pretokenizers"):
        if name in found:
            return list(found[name])
    return [found]


def _replacement(step: _Step) -> tuple[str, str] | None:
    match step:
        case {"type": "Replace", "pattern": {"String": old}, "content": new}:
            return old, new
        case {"type": "Metaspace", "replacement": mark}:
            return mark, " "
        case {"type": "BPEDecoder", "suffix": suffix}:
            return suffix, " "
        case {"type": "Replace", "pattern": pattern}:
            raise ModelError(f"the tokenizer replaces {pattern} in its tokens, which is not known")
    return None


def _word_pieces(steps: list[_Step]) -> Callable[[str], bytes] | None:
    """WordPiece marks the tokens that go on with a word; all others begin one, after a space."""
    for step in steps:
        if step["type"] == "WordPiece":
            prefix = step["prefix"]
            return lambda name: plain_bytes(
                name.removeprefix(prefix) if name.startswith(prefix) else f" {name}"
            )
    return None
