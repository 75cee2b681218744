"""A tokenizer without a model: a character is a token, a chat is its turns one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from shared.protocol.messages import (
    PLAIN_OUTPUT,
    PLAIN_TEMPLATE,
    ChatMessage,
    OutputFormat,
    TemplateOptions,
)
from shared.speculation.scripted_model import SCRIPTED_END_ID, scripted_token_bytes


class ScriptedTokenizer:
    """Implements `verifier.target.target.Tokenizer` for the scripted vocabulary."""

    def __init__(self, vocab_size: int) -> None:
        self.token_bytes = scripted_token_bytes(vocab_size)
        self.special_ids = frozenset({SCRIPTED_END_ID})
        self.end_ids = frozenset({SCRIPTED_END_ID})
        self.output_format: OutputFormat = PLAIN_OUTPUT

    def encode_text(self, text: str, *, adds_special: bool = True) -> list[int]:
        """One ordinary token for each character."""
        return [1 + ord(character) % (len(self.token_bytes) - 1) for character in text]

    def encode_chat(
        self,
        messages: Sequence[ChatMessage],
        options: TemplateOptions = PLAIN_TEMPLATE,
        tools: bytes = b"",
    ) -> list[int]:
        """The contents of all turns; tools are shown to none."""
        return self.encode_text("".join(message.content for message in messages))
