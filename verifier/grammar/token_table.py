"""The target's vocabulary as grammars read it: the bytes of every id, and which ids end a text.

Only this module and its neighbours import llguidance. It must never draw a token.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from shared.errors import RequestRefused
from verifier.grammar.compiler import limits

# Of a text that is cut into tokens as the target's tokenizer does it: 4 ms for 512 bytes.
_LONGEST_FORCED_BYTES = 128
_UNSURE_TOKENS = 4
# What a grammar forces is the same for all who use it.
_REMEMBERED_TEXTS = 4096


class TokenTable:
    """One vocabulary for all grammars.

    Making it holds Python's lock for 0.2 s with 128,256 tokens: no event loop may run beside.
    """

    def __init__(
        self,
        token_bytes: Sequence[bytes],
        vocab_size: int,
        special_ids: frozenset[int],
        end_ids: frozenset[int],
        encode: Callable[[str], list[int]],
    ) -> None:
        """`encode` says how the target's tokenizer cuts a text; there is an end id at least.

        Where a grammar leaves only one text, only that cut of it may come.
        """
        self.vocab_size = vocab_size
        ends = sorted(end_ids)
        cut = _Vocabulary(token_bytes, vocab_size, special_ids | end_ids, ends[0], encode)
        self._tokenizer = LLTokenizer(TokenizerWrapper(cut), n_vocab=vocab_size, eos_token=ends)

    def matcher(self, grammar: str, reads_ahead: bool = True) -> LLMatcher:
        """A grammar of the library's own form, at the beginning of a text.

        Without reading ahead a text that the grammar forces may be cut into any tokens, one at a
        time.
        """
        own = grammar if reads_ahead else _one_at_a_time(grammar)
        return LLMatcher(self._tokenizer, own, log_level=0, limits=limits())


def _one_at_a_time(grammar: str) -> str:
    """The option is one of each part, and holds for all of them if one has it."""
    is_lark = not grammar.lstrip().startswith("{")
    own: Any = {"grammars": [{"lark_grammar": grammar}]} if is_lark else json.loads(grammar)
    lark = '%llguidance {"no_forcing": true}\nstart: "x"'
    own["grammars"].append({"name": "one at a time", "lark_grammar": lark})
    return json.dumps(own)


class _Vocabulary:
    """What `TokenizerWrapper` asks for, by its names."""

    def __init__(
        self,
        token_bytes: Sequence[bytes],
        vocab_size: int,
        special_ids: frozenset[int],
        end_id: int,
        encode: Callable[[str], list[int]],
    ) -> None:
        self.tokens = [*token_bytes, *[b""] * (vocab_size - len(token_bytes))]
        self.special_token_ids = sorted(special_ids)
        self.eos_token_id = end_id
        self.bos_token_id = None
        self._encode = encode
        self._ids = {text: i for i, text in enumerate(self.tokens) if text and i not in special_ids}
        self._most_bytes = max(map(len, self._ids), default=0)
        self._cut = functools.lru_cache(_REMEMBERED_TEXTS)(self._cut_anew)

    def __call__(self, text: bytes) -> list[int]:
        """Ids that make exactly these bytes, or the beginning of a long text."""
        if len(text) <= _LONGEST_FORCED_BYTES:
            return self._cut(text)
        # Where a text breaks off, its last tokens would be other ones than in the whole of it.
        return self._cut(_whole_characters(text[:_LONGEST_FORCED_BYTES]))[:-_UNSURE_TOKENS]

    def _cut_anew(self, text: bytes) -> list[int]:
        try:
            token_ids = self._encode(text.decode())
        except (UnicodeDecodeError, RequestRefused):
            token_ids = []
        if b"".join([self.tokens[i] for i in token_ids]) == text:
            return token_ids
        return self._longest_first(text)

    def _longest_first(self, text: bytes) -> list[int]:
        token_ids, at = [], 0
        while at < len(text):
            ends = range(min(at + self._most_bytes, len(text)), at, -1)
            end = next((end for end in ends if text[at:end] in self._ids), None)
            if end is None:
                break
            token_ids.append(self._ids[text[at:end]])
            at = end
        return token_ids


def _whole_characters(text: bytes) -> bytes:
    """Without a character at its end of which only the beginning is there."""
    for start in range(len(text) - 1, max(len(text) - 4, -1), -1):
        if text[start] & 0xC0 == 0xC0:  # the first byte of several
            num_bytes = 2 + (text[start] >= 0xE0) + (text[start] >= 0xF0)
            return text if len(text) - start >= num_bytes else text[:start]
    return text
