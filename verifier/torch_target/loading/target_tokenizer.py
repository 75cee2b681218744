"""A target's tokenizer and chat template without its weights, which workers have."""

from __future__ import annotations

from pathlib import Path

from shared.daemon.model_border import model_border
from shared.errors import ModelError
from verifier.target.target_settings import TemplateSettings
from verifier.torch_target.loading.gguf_vocabulary import vocabulary_of
from verifier.torch_target.loading.model_reading import (
    find_model,
    quiet_reading,
    read_tokenizer,
)
from verifier.torch_target.loading.tokenizer import HuggingFaceTokenizer


def load_tokenizer(
    path: Path, vocab_size: int, end_ids: frozenset[int], template: TemplateSettings
) -> HuggingFaceTokenizer:
    """The tokenizer of the model at a path, whose rows of logits have so many entries.

    Raises:
        ModelError: a file is missing, broken or of another kind.
    """
    if not path.exists() and len(path.parts) != 2:  # two parts may be a name on the hub
        raise ModelError(f"there is no target model at {path}")
    with model_border(f"cannot read the tokenizer of {path}"):
        files = find_model(path)
        vocabulary = None if files.gguf is None else vocabulary_of(files.gguf.parts[0])
        with quiet_reading(files):
            tokenizer = read_tokenizer(files)
        return HuggingFaceTokenizer(tokenizer, vocab_size, end_ids, vocabulary, template)
