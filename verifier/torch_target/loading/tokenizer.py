"""The target's tokenizer and chat template, from transformers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase

from shared.errors import RequestRefused
from shared.protocol.messages import (
    PLAIN_OUTPUT,
    PLAIN_TEMPLATE,
    ChatMessage,
    OutputFormat,
    TemplateOptions,
)
from verifier.chat_template.chat_encoder import ChatEncoder, ChatTemplate, ControlNames
from verifier.chat_template.chosen_template import chosen_template
from verifier.target.target_settings import MODELS_OWN_TEMPLATE, TemplateSettings
from verifier.torch_target.loading.decoder_names import name_reader
from verifier.torch_target.loading.gguf_vocabulary import GgufVocabulary
from verifier.torch_target.loading.own_tokenizer import OwnTokenizer
from verifier.torch_target.loading.token_names import plain_bytes, sentencepiece_bytes

# Tokens that end a turn in the chat formats around; only those that a vocabulary holds count.
_END_OF_TURN = (
    *("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<turn|>", "<|end|>"),
    *("<|endoftext|>", "<|return|>", "<|call|>", "<|tool_response>"),
)
_END_OF_PART = "<|end|>"  # no more than that where `<|return|>` is there too (gpt-oss)


class HuggingFaceTokenizer:
    """Implements `verifier.target.target.Tokenizer`."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        vocab_size: int,
        end_ids: Iterable[int] = (),
        file_vocabulary: GgufVocabulary | None = None,
        template: TemplateSettings = MODELS_OWN_TEMPLATE,
    ) -> None:
        """`vocab_size` is the model's, `end_ids` those that its settings name besides.

        Where the tokenizer was made from a GGUF file, `file_vocabulary` is what that says itself.

        Raises:
            ModelError: the tokenizer does not say which bytes its tokens are, or the template of
                the settings is not there.
        """
        added = tokenizer.added_tokens_decoder
        special_ids = {i for i, token in added.items() if token.special}
        vocabulary = tokenizer.get_vocab()
        if file_vocabulary is None:
            found = _token_bytes(tokenizer, vocabulary)
        else:
            found = dict(enumerate(file_vocabulary.token_bytes))
            special_ids |= file_vocabulary.special_ids
        # Padding has no bytes, and what is named beyond the model's size is not the model's.
        self.token_bytes: tuple[bytes, ...] = tuple(found.get(i, b"") for i in range(vocab_size))
        self.special_ids = frozenset(i for i in special_ids if i < vocab_size)
        own_ids = _own_ids(vocabulary, self.token_bytes)
        ends = {tokenizer.eos_token_id, *end_ids}
        ends |= {vocabulary[name] for name in _END_OF_TURN if name in vocabulary}
        if "<|return|>" in vocabulary:
            ends -= {vocabulary.get(_END_OF_PART)}
        named = (own_ids.get(i, i) for i in ends if i is not None)
        self.end_ids = frozenset(i for i in named if i < vocab_size)
        self._own = OwnTokenizer(tokenizer, self.token_bytes, own_ids, self.special_ids)
        self._chats = self._chat_encoder(tokenizer, template)

    def encode_text(self, text: str, *, adds_special: bool = True) -> list[int]:
        """See `verifier.target.target.Tokenizer.encode_text`."""
        return self._own.encode_text(text, adds_special=adds_special)

    @property
    def output_format(self) -> OutputFormat:
        """See `verifier.target.target.Tokenizer.output_format`."""
        return PLAIN_OUTPUT if self._chats is None else self._chats.output_format

    def encode_chat(
        self,
        messages: Sequence[ChatMessage],
        options: TemplateOptions = PLAIN_TEMPLATE,
        tools: bytes = b"",
    ) -> list[int]:
        """See `verifier.target.target.Tokenizer.encode_chat`."""
        if self._chats is None:
            raise RequestRefused(
                "the target model has no chat template; target.chat_template in the verifier's "
                "settings gives it one",
                "messages",
            )
        return self._chats.encode(messages, options, tools)

    def _chat_encoder(
        self, tokenizer: PreTrainedTokenizerBase, settings: TemplateSettings
    ) -> ChatEncoder | None:
        text = chosen_template(settings, tokenizer.chat_template)
        if text is None:
            return None
        added = tokenizer.added_tokens_decoder.values()
        special = {token.content for token in added if token.special}
        special |= {self.token_bytes[i].decode(errors="ignore") for i in self.special_ids}
        visible = {token.content for token in added} - special
        return ChatEncoder(
            ChatTemplate(text, settings.arguments, tokenizer.special_tokens_map),
            ControlNames(frozenset(special), frozenset(visible)),
            self._own,
        )


def check_tokenizer(
    tokenizer: PreTrainedTokenizerBase,
    file_vocabulary: GgufVocabulary | None,
    template: TemplateSettings,
) -> None:
    """Before weights are read for it, which may take minutes.

    Raises:
        ModelError: as `HuggingFaceTokenizer` would.
    """
    if file_vocabulary is None:
        name_reader(tokenizer)
    chosen_template(template, tokenizer.chat_template)


def _token_bytes(
    tokenizer: PreTrainedTokenizerBase, vocabulary: dict[str, int]
) -> dict[int, bytes]:
    added = tokenizer.added_tokens_decoder
    read = name_reader(tokenizer)
    found = {token_id: read(name) for name, token_id in vocabulary.items() if token_id not in added}
    # Added tokens are found in a text as they are written; a mark for a space is one all the same
    # where the others have it (Gemma's runs of spaces).
    has_space_marks = read("\u2581") == b" "
    for token_id, token in added.items():
        is_marked = has_space_marks and not token.special
        found[token_id] = (sentencepiece_bytes if is_marked else plain_bytes)(token.content)
    return found


def _own_ids(vocabulary: dict[str, int], token_bytes: Sequence[bytes]) -> dict[int, int]:
    """The model's ids of tokens that the tokenizer has by an id beyond the model's.

    Tokenizers made from DeepSeek's GGUF files have them: they do not know the special tokens again.
    """
    beyond = {plain_bytes(name): i for name, i in vocabulary.items() if i >= len(token_bytes)}
    if not beyond:
        return {}
    return {beyond[text]: i for i, text in enumerate(token_bytes) if text in beyond}
