"""The tokenizer of a target's GGUF file, as a verifier has it, without the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer

from shared.daemon.model_border import model_border
from shared.errors import ModelError
from shared.protocol.messages import ChatMessage
from verifier.torch_target.loading.gguf_vocabulary import vocabulary_of
from verifier.torch_target.loading.model_reading import find_model, quiet_reading
from verifier.torch_target.loading.tokenizer import HuggingFaceTokenizer
from verifier.torch_target.model_files.end_ids import end_ids_of_file


class TargetTokenizer:
    """Implements `chat_frame.ChatTokenizer`."""

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            ModelError: the file has no tokenizer that can be read, or no chat template.
        """
        with model_border(f"cannot read the tokenizer of {path}"):
            files = find_model(path)
            assert files.gguf is not None
            vocabulary = vocabulary_of(files.gguf.parts[0])
            with quiet_reading(files):
                tokenizer = AutoTokenizer.from_pretrained(**files.source)
            size = len(vocabulary.token_bytes)
            ends = end_ids_of_file(files.gguf)
            self._own = HuggingFaceTokenizer(tokenizer, size, ends, vocabulary)
        if tokenizer.chat_template is None:
            raise ModelError(
                f"{path}: has no chat template (tokenizer.chat_template), whose words a draft "
                "learns to go on from: take the file of a chat model"
            )
        self.special_ids, self.end_ids = self._own.special_ids, self._own.end_ids

    def encode_text(self, text: str, *, adds_special: bool = True) -> list[int]:
        return self._own.encode_text(text, adds_special=adds_special)

    def encode_chat(self, messages: Sequence[ChatMessage]) -> list[int]:
        return self._own.encode_chat(messages)
