"""What a GGUF file says of itself, for the registry."""

from __future__ import annotations

import hashlib
from pathlib import Path

from shared.errors import ModelError
from shared.protocol.fingerprint import fingerprint
from verifier.drafts.kept_draft import KeptDraft
from verifier.torch_target.loading.gguf_vocabulary import vocabulary_of
from verifier.torch_target.model_files.gguf_header import read_gguf_header


def described_draft(
    path: Path, sha256: str, num_bytes: int, shown: Path | None = None
) -> KeptDraft:
    """What a GGUF file says of itself; an error names `shown` in place of it.

    Raises:
        ModelError: it is no whole draft.
    """
    try:
        header = read_gguf_header(path)
        vocabulary = vocabulary_of(header)
    except ModelError as error:
        raise ModelError(str(error).replace(str(path), str(shown or path))) from None
    licence = header.fields.get("general.license")
    return KeptDraft(
        sha256=sha256,
        num_bytes=num_bytes,
        vocabulary=hashlib.sha256(fingerprint(vocabulary.token_bytes)).hexdigest()[:12],
        architecture=header.architecture,
        num_weights=sum(tensor.num_values for tensor in header.tensors),
        licence=licence.decode(errors="replace")[:80] if isinstance(licence, bytes) else "",
    )
