"""A draft fits where no id means something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import ModelError
from tests.support.models.tiny_gguf import write_tiny_llama
from verifier.torch_target.loading.draft_fit import check_draft_fits
from verifier.torch_target.loading.gguf_vocabulary import read_gguf_vocabulary


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    write_tiny_llama(path)
    return path


def test_the_same_vocabulary_fits_however_it_is_padded(draft: Path) -> None:
    own = read_gguf_vocabulary(draft).token_bytes
    for target in (own, own[:-3], (*own, b"", b"more"), (b"", *own[1:])):
        check_draft_fits(draft, target)


def test_an_id_with_two_meanings_is_named(draft: Path) -> None:
    own = read_gguf_vocabulary(draft).token_bytes
    with pytest.raises(ModelError, match=r"its token id 7 is .* and the target's is b'other'"):
        check_draft_fits(draft, (*own[:7], b"other", *own[8:]))


def test_a_cut_file_does_not_fit(draft: Path) -> None:
    own = read_gguf_vocabulary(draft).token_bytes
    draft.write_bytes(draft.read_bytes()[:-1])
    with pytest.raises(ModelError, match="is cut"):
        check_draft_fits(draft, own)
