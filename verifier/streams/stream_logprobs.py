"""What a stream's client is told of the target's log-probabilities, packed as it travels.

Kept as long as the stream: a verdict may get lost, and a prompt that has lost its place in the
cache need not be scored again. This module must never know a link or a round.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import RequestRefused
from shared.protocol.logprobs import (
    MAX_PROMPT_LOGPROB_BYTES,
    UNKNOWN_LOGPROB,
    TokenLogprobs,
    pack_logprobs,
    packed_bytes,
)
from verifier.target.round import PromptRows


class StreamLogprobs:
    """Of the output where `num_others` are asked with each, of the prompt likewise; None: none."""

    __slots__ = ("_num_others", "_num_prompt_others", "_output", "_prompt")

    def __init__(self, num_others: int | None, num_prompt_others: int | None) -> None:
        self._num_others = num_others
        self._num_prompt_others = num_prompt_others
        self._output, self._prompt = bytearray(), bytearray()

    @property
    def output(self) -> bytes:
        """Of all its tokens so far."""
        return bytes(self._output)

    @property
    def prompt(self) -> bytes:
        """Of its tokens but the first, which comes behind nothing, as far as they are scored."""
        return bytes(self._prompt)

    def keep_output(self, tokens: Sequence[TokenLogprobs]) -> bytes:
        """What is told of the next output tokens, and again if their verdict gets lost."""
        if self._num_others is None:
            return b""
        packed = pack_logprobs(tokens, self._num_others)
        self._output += packed
        return packed

    def keep_unknown(self, num_tokens: int) -> None:
        """So many output tokens come from before, and what was thought of them is not known."""
        self.keep_output((UNKNOWN_LOGPROB,) * num_tokens)

    def keep_prompt(self, packed: bytes) -> None:
        """What the target thinks of the next tokens of the prompt."""
        self._prompt += packed

    def most_cached(self, num_tokens: int, num_prompt: int) -> int:
        """How many of its first `num_tokens` need not be read, if the cache holds them.

        Not the last one, and of a prompt that is to be scored those that have been.
        """
        if self._num_prompt_others is None or self._num_scored >= num_prompt:
            return num_tokens - 1
        return min(self._num_scored - 1, num_tokens - 1)

    def prompt_rows(
        self, prompt_ids: Sequence[int], num_cached: int, num_read: int
    ) -> PromptRows | None:
        """The rows to score where `num_read` tokens are read behind `num_cached` ones.

        `prompt_ids` may lack tokens behind the one after those.
        """
        if self._num_prompt_others is None:
            return None
        first = max(num_cached, self._num_scored - 1)
        end = min(num_cached + num_read, len(prompt_ids) - 1)
        if first >= end:
            return None
        assert first == self._num_scored - 1, "tokens of the prompt were read and not scored"
        next_ids = tuple(prompt_ids[first + 1 : end + 1])
        return PromptRows(first - num_cached, next_ids, self._num_prompt_others)

    @property
    def _num_scored(self) -> int:
        """Tokens of the prompt of which all is known that will be: the first one always."""
        assert self._num_prompt_others is not None
        return 1 + len(self._prompt) // packed_bytes(self._num_prompt_others)


def check_prompt_logprobs(num_prompt: int, num_others: int) -> None:
    """They are not too many to be kept and told.

    Raises:
        RequestRefused: they are; the sentence tells what to change.
    """
    num_bytes = num_prompt * packed_bytes(num_others)
    if num_bytes > MAX_PROMPT_LOGPROB_BYTES:
        most = MAX_PROMPT_LOGPROB_BYTES // packed_bytes(num_others)
        raise RequestRefused(
            f"log-probabilities of {num_prompt} tokens of a prompt with {num_others} others each "
            f"exceed {MAX_PROMPT_LOGPROB_BYTES} bytes: with so many {most} tokens can be told; "
            "send a shorter prompt, or ask for fewer",
            "prompt_logprobs",
        )
