"""Log-probabilities as clients read them: of a list of tokens, and of a completion. Pure."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from edge_agent.generation.generation import PromptPiece, ScoredToken


def listed_logprobs(tokens: Sequence[ScoredToken]) -> list[dict[str, Any]]:
    """Of each token, as OpenAI's Responses API and Ollama have it."""
    return [
        {
            **_entry(token.token, token.logprob),
            "top_logprobs": [_entry(*other) for other in token.top],
        }
        for token in tokens
    ]


def chat_logprobs(tokens: Sequence[ScoredToken]) -> dict[str, Any] | None:
    """Of a choice or a delta with these tokens; None where there are none."""
    return {"content": listed_logprobs(tokens), "refusal": None} if tokens else None


class CompletionLogprobs:
    """Of a completion, told at once or in pieces: each token's place in the text goes on."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._offset = 0  # characters of the text so far

    def begin_behind(self, prompt: PromptPiece) -> None:
        """Those of this prompt's tokens are the next, of a text that may lack what they begin with.

        A tokenizer may set a mark before a text that the client has not written.
        """
        num_spelled = len(b"".join(t.token for t in prompt.logprobs).decode("utf-8", "replace"))
        self._offset = len(prompt.text) - num_spelled if prompt.logprobs else len(prompt.text)

    def told(self, tokens: Sequence[ScoredToken]) -> dict[str, Any] | None:
        """Of the next tokens; None where there are none."""
        if not tokens:
            return None
        return {
            "tokens": [_text(token.token) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [_likeliest(token) for token in tokens],
            "text_offset": [self._next_offset(token) for token in tokens],
        }

    def _next_offset(self, token: ScoredToken) -> int:
        offset = max(self._offset, 0)
        self._offset += len(self._decoder.decode(token.token))
        return offset


def _entry(token: bytes, logprob: float | None) -> dict[str, Any]:
    return {"token": _text(token), "logprob": logprob, "bytes": list(token)}


def prompt_logprobs(prompt: PromptPiece) -> list[dict[str, Any] | None]:
    """Of a prompt's tokens by their ids, as vLLM tells them; the rank is known of the likeliest."""
    if not prompt.token_ids:
        return []
    told: list[dict[str, Any] | None] = [None]
    scored = zip(prompt.token_ids, prompt.logprobs, prompt.top_ids, strict=True)
    for own_id, token, top_ids in list(scored)[1:]:
        of_token: dict[str, Any] = {}
        for rank, (other_id, other) in enumerate(zip(top_ids, token.top, strict=True), start=1):
            of_token[str(other_id)] = _ranked(other[0], other[1], rank)
        of_token.setdefault(str(own_id), _ranked(token.token, token.logprob, None))
        told.append(of_token)
    return told


def _ranked(token: bytes, logprob: float | None, rank: int | None) -> dict[str, Any]:
    return {"logprob": logprob, "rank": rank, "decoded_token": _text(token)}


def _likeliest(token: ScoredToken) -> dict[str, float | None] | None:
    """By their text, the likeliest of those that look alike; the chosen one is always there.

    None: of it nothing is known.
    """
    if token.logprob is None and not token.top:
        return None
    by_text: dict[str, float | None] = {}
    for other, logprob in (*token.top, (token.token, token.logprob)):
        by_text.setdefault(_text(other), logprob)
    return by_text


def _text(token: bytes) -> str:
    return token.decode("utf-8", "replace")
