"""The tokenizer of transformers with the ids that the model has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from shared.errors import RequestRefused
from verifier.chat_template.marks import without_marks


class OwnTokenizer:
    """Implements `verifier.chat_template.chat_encoder.PromptTokenizer`."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        token_bytes: Sequence[bytes],
        own_ids: Mapping[int, int],
        special_ids: frozenset[int],
    ) -> None:
        """`own_ids`: the model's ids of tokens that the tokenizer has by other ones."""
        self._tokenizer = tokenizer
        self._vocab_size = len(token_bytes)
        self._own_ids = own_ids
        unknown_id = tokenizer.unk_token_id
        unknown_id = own_ids.get(unknown_id, unknown_id)
        # A character that the vocabulary lacks becomes the unknown one, which says nothing.
        self.forgeable_ids = special_ids - {unknown_id}
        self._known_bytes = {i: text for i, text in enumerate(token_bytes) if i != unknown_id}

    def encode_text(self, text: str, *, adds_special: bool = True) -> list[int]:
        """Ids of a plain prompt, with those that the tokenizer sets around it or without.

        Raises:
            RequestRefused: the model has no such id.
        """
        encoded = self._tokenizer(text, add_special_tokens=adds_special)
        return self._within(encoded["input_ids"])

    def encode_marked(self, text: str, mark: str) -> list[int] | None:
        """See `PromptTokenizer.encode_marked`; raises like `encode_text`."""
        if mark not in text:
            return self._within(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        if not self._tokenizer.is_fast:  # it does not tell where in the text a token stands
            return None
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        spans = encoded["offset_mapping"]
        kept = without_marks(encoded["input_ids"], spans, text, mark, self._known_bytes)
        return None if kept is None else self._within(kept)

    def _within(self, token_ids: Iterable[int]) -> list[int]:
        """The ids as the model knows them."""
        known = [self._own_ids.get(token_id, token_id) for token_id in token_ids]
        if (largest := max(known, default=0)) >= self._vocab_size:
            raise RequestRefused(
                f"the target's tokenizer makes token id {largest} of it, "
                f"and the model has {self._vocab_size}"
            )
        return known
