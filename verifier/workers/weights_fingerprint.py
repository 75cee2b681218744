"""Which weights a model's files hold, as a short name that two hosts can compare.

Of every file its name, its size and pieces spread over it: to read all of a large model would take
minutes, and files that differ by mistake (another quantisation, another training run) differ
everywhere. It is no proof against a forger, who has the secret already.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from pathlib import Path

_PIECE_BYTES = 1 << 16
_NUM_PIECES = 64
_DIGEST_BYTES = 16
_SPLIT = re.compile(r"^(.*)-[0-9]{5}-of-([0-9]{5})\.gguf\Z")


def weights_fingerprint(path: Path) -> str:
    """Of the file, with all parts that belong to it, or of the directory, or of a hub's name."""
    digest = blake2b(digest_size=_DIGEST_BYTES)
    files = _files(path)
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as content:
            for piece in range(_NUM_PIECES):
                content.seek(max(size - _PIECE_BYTES, 0) * piece // (_NUM_PIECES - 1))
                digest.update(content.read(_PIECE_BYTES))
    return digest.hexdigest() if files else f"hub {path}"


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("*.safetensors"))
    if not path.is_file():
        return []
    split = _SPLIT.match(path.name)
    if split is None:
        return [path]
    return sorted(path.parent.glob(f"{split[1]}-?????-of-{split[2]}.gguf"))
