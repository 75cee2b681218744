"""The target's tokenizer and chat template, from transformers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from shared.errors import RequestRefused

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")  # SentencePiece's name for a byte
_SPACE = "\u2581"  # SentencePiece's mark for a space
# Tokens that end a turn in the chat formats around; only those that a vocabulary holds count.
_END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>")


class HuggingFaceTokenizer:
    """Implements `verifier.target.target.Tokenizer`."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, vocab_size: int, end_ids: Iterable[int] = ()
    ) -> None:
        """`vocab_size` is the model's, `end_ids` those that its settings name besides."""
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        self.special_ids = frozenset(i for i, token in added.items() if token.special)
        vocabulary = tokenizer.get_vocab()
        read = _token_reader(vocabulary)
        token_bytes = [b""] * vocab_size  # also of the padding that a vocabulary may have
        for name, token_id in vocabulary.items():
            if token_id < vocab_size:
                token_bytes[token_id] = name.encode() if token_id in added else read(name)
        self.token_bytes: tuple[bytes, ...] = tuple(token_bytes)
        ends = {tokenizer.eos_token_id, *end_ids}
        ends |= {vocabulary[name] for name in _END_OF_TURN if name in vocabulary}
        self.end_ids = frozenset(token_id for token_id in ends if token_id is not None)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a plain prompt."""
        return list(self._tokenizer(text)["input_ids"])

    def encode_chat(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """See `verifier.target.target.Tokenizer.encode_chat`."""
        if self._tokenizer.chat_template is None:
            raise RequestRefused("the target model has no chat template", "messages")
        turns = [{"role": role, "content": content} for role, content in messages]
        try:
            token_ids: Any = self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        except jinja2.TemplateError as error:
            raise RequestRefused(f"the chat template refuses it: {error}", "messages") from error
        return list(token_ids)


def _token_reader(names: Iterable[str]) -> Callable[[str], bytes]:
    """From a token's name to its bytes: byte-level BPE, or SentencePiece."""
    if any(name.startswith(_SPACE) for name in names):
        return _sentencepiece_bytes
    alphabet = bytes_to_unicode()  # type: ignore[no-untyped-call]
    byte_of = {character: byte for byte, character in alphabet.items()}

    def byte_level(name: str) -> bytes:
        try:
            return bytes(byte_of[character] for character in name)
        except KeyError:  # not in the byte alphabet: a token that was added as plain text
            return name.encode()

    return byte_level


def _sentencepiece_bytes(name: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(name)
    return bytes([int(byte[1], 16)]) if byte else name.replace(_SPACE, " ").encode()
