"""What a client is told of its own prompt: its text, and what the target thinks of its tokens.

Put together from the request, the ids that the verifier tells and its PromptLogprobs. This module
must never know a dialect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.generation.generation import GenerationRequest, PromptPiece, ScoredToken
from shared.errors import RemoteProtocolError
from shared.protocol.logprobs import MAX_PROMPT_LOGPROB_BYTES, TokenLogprobs, unpack_logprobs
from shared.protocol.messages import PromptLogprobs


class PromptTelling:
    """Of one generation; the prompt is told once, however often its stream is opened again."""

    __slots__ = ("_num_others", "_packed", "_text", "is_due")

    def __init__(self, request: GenerationRequest) -> None:
        self.is_due = request.tells_prompt
        self._num_others = request.num_prompt_logprobs if self.is_due else None
        # What was written is told as it was written, not as the tokens spell it.
        self._text = "" if request.prompt_ids or request.messages else request.text
        self._packed = bytearray()

    @property
    def num_wanted(self) -> int | None:
        """Log-probabilities to ask the verifier for, beside each token's own; None: none at all."""
        return self._num_others if self.is_due else None

    def begin_again(self) -> None:
        """The stream was opened: the verifier tells all of them, from the first on."""
        self._packed.clear()

    def take(self, message: PromptLogprobs) -> None:
        """The next ones.

        Raises:
            RemoteProtocolError: they are too many.
        """
        if self.is_due:
            self._packed += message.logprobs
            if len(self._packed) > MAX_PROMPT_LOGPROB_BYTES:
                raise RemoteProtocolError("log-probabilities of more prompt than was asked for")

    def tell(
        self, prompt_ids: tuple[int, ...], vocab_size: int, bytes_of: Callable[[int], bytes]
    ) -> UntoldPrompt:
        """The prompt, to be told before all else."""
        self.is_due = False
        packed = None if self._num_others is None else bytes(self._packed)
        self._packed.clear()
        num_others = self._num_others or 0
        return UntoldPrompt(prompt_ids, self._text, packed, num_others, vocab_size, bytes_of)


@dataclass(frozen=True, slots=True)
class UntoldPrompt:
    """A prompt as it came; what a client is told of it takes long to make of a long one."""

    _prompt_ids: tuple[int, ...]
    _text: str  # as it was written; empty: as its tokens spell it
    _packed: bytes | None  # log-probabilities of all tokens but the first; None: none are told
    _num_others: int
    _vocab_size: int
    _bytes_of: Callable[[int], bytes]

    def piece(self) -> PromptPiece:
        """What is told; of its first token nothing is known.

        21,845 tokens with one other each take 0.1 s of a core: call it in a thread.

        Raises:
            RemoteProtocolError: the log-probabilities are malformed, or not of these tokens.
        """
        prompt_ids, bytes_of = self._prompt_ids, self._bytes_of
        tokens = [bytes_of(token_id) for token_id in prompt_ids]
        text = self._text or b"".join(tokens).decode("utf-8", "replace")
        if self._packed is None:
            return PromptPiece(text, "target")
        num_scored = max(len(prompt_ids) - 1, 0)
        scores = unpack_logprobs(self._packed, num_scored, self._num_others, self._vocab_size)
        every = (TokenLogprobs(None), *scores)[: len(prompt_ids)]
        return PromptPiece(
            text,
            "target",
            logprobs=tuple(
                [
                    ScoredToken(
                        token, score.logprob, tuple([(bytes_of(i), p) for i, p in score.top])
                    )
                    for token, score in zip(tokens, every, strict=True)
                ]
            ),
            token_ids=prompt_ids,
            top_ids=tuple([tuple([i for i, _ in score.top]) for score in every]),
        )
