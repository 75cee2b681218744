"""Whether a draft model in a GGUF file fits a target: they mean the same tokens by the same ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shared.errors import ModelError
from verifier.torch_target.loading.gguf_vocabulary import read_gguf_vocabulary


def check_draft_fits(path: Path, token_bytes: Sequence[bytes]) -> None:
    """As the handshake would: ids that both have are the same bytes.

    Raises:
        ModelError: the file is broken, or an id means something else; the sentence names it.
    """
    draft_bytes = read_gguf_vocabulary(path).token_bytes
    for token_id, (ours, theirs) in enumerate(zip(token_bytes, draft_bytes, strict=False)):
        if ours and theirs and ours != theirs:
            raise ModelError(f"its token id {token_id} is {theirs!r}, and the target's is {ours!r}")
