"""What clients are told of token ids, in the shapes of vLLM and of llama-server. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_agent.api.requests.client_request import TokenWish
from shared.errors import RequestRefused


def tokenize_answer(
    token_ids: Sequence[int],
    token_bytes: Sequence[bytes],
    wish: TokenWish,
    context_tokens: int | None,
) -> dict[str, Any]:
    """Of `POST /tokenize`."""
    if wish.is_llama_servers:
        return {"tokens": _pieces(token_ids, token_bytes) if wish.with_pieces else list(token_ids)}
    strings = [token_bytes[token_id].decode(errors="replace") for token_id in token_ids]
    return {
        "count": len(token_ids),
        "max_model_len": context_tokens,
        "tokens": list(token_ids),
        "token_strs": strings if wish.with_strings else None,
    }


def detokenize_answer(token_ids: Sequence[int], token_bytes: Sequence[bytes]) -> dict[str, Any]:
    """Of `POST /detokenize`, for clients of both: special tokens are written out.

    Raises:
        RequestRefused: the target has no such token.
    """
    if (largest := max(token_ids, default=0)) >= len(token_bytes):
        sentence = f"tokens: id {largest} is outside the vocabulary of {len(token_bytes)}"
        raise RequestRefused(sentence, "tokens")
    text = b"".join(map(token_bytes.__getitem__, token_ids)).decode(errors="replace")
    return {"prompt": text, "content": text}


def _pieces(token_ids: Sequence[int], token_bytes: Sequence[bytes]) -> list[dict[str, Any]]:
    """As llama-server's: the bytes as numbers where they are no text by themselves."""
    return [
        {"id": token_id, "piece": _text(token_bytes[token_id]) or list(token_bytes[token_id])}
        for token_id in token_ids
    ]


def _text(piece: bytes) -> str | None:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return None
