"""The target's tokenizer and chat template, from transformers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from shared.errors import RequestRefused
from verifier.torch_target.loading.decoder_names import name_reader
from verifier.torch_target.loading.gguf_vocabulary import GgufVocabulary
from verifier.torch_target.loading.token_names import plain_bytes, sentencepiece_bytes

# Tokens that end a turn in the chat formats around; only those that a vocabulary holds count.
_END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>")


class HuggingFaceTokenizer:
    """Implements `verifier.target.target.Tokenizer`."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        vocab_size: int,
        end_ids: Iterable[int] = (),
        file_vocabulary: GgufVocabulary | None = None,
    ) -> None:
        """`vocab_size` is the model's, `end_ids` those that its settings name besides.

        Where the tokenizer was made from a GGUF file, `file_vocabulary` is what that says itself.

        Raises:
            ModelError: the tokenizer does not say which bytes its tokens are.
        """
        self._tokenizer = tokenizer
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
        self._own_ids = _own_ids(vocabulary, self.token_bytes)
        ends = {tokenizer.eos_token_id, *end_ids}
        ends |= {vocabulary[name] for name in _END_OF_TURN if name in vocabulary}
        named = (self._own_ids.get(i, i) for i in ends if i is not None)
        self.end_ids = frozenset(i for i in named if i < vocab_size)

    def encode_text(self, text: str) -> list[int]:
        """Token ids of a plain prompt."""
        return self._within(self._tokenizer(text)["input_ids"])

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
        return self._within(token_ids)

    def _within(self, token_ids: Iterable[int]) -> list[int]:
        """The ids as the model knows them."""
        vocab_size = len(self.token_bytes)
        known = [self._own_ids.get(token_id, token_id) for token_id in token_ids]
        if (largest := max(known, default=0)) >= vocab_size:
            raise RequestRefused(
                f"the target's tokenizer makes token id {largest} of it, "
                f"and the model has {vocab_size}"
            )
        return known


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
