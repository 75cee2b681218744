"""Log-probabilities of tokens on the wire: for each token 4 bytes, and 8 for each other one.

They are the target's own, of its logits as they are: before penalties, biases and temperature.
Little-endian float32, then as many pairs of token id and float32 as were asked for, the likeliest
first.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import RemoteProtocolError

# JSON has no infinity; OpenAI's API and vLLM write this for it.
LEAST_LOGPROB = -9999.0
_OWN_BYTES, _PAIR_BYTES = 4, 8
# Of one prompt: 87,381 tokens with one other each, 6,393 with 20.
MAX_PROMPT_LOGPROB_BYTES = 1 << 20


class TokenLogprobs(msgspec.Struct, frozen=True):
    """What the target thought of one token and of the likeliest ones in its place."""

    logprob: float | None  # None: it was not kept
    top: tuple[tuple[int, float], ...] = ()  # token ids, likeliest first


UNKNOWN_LOGPROB = TokenLogprobs(None)


def packed_bytes(num_others: int) -> int:
    """Bytes of one token with so many others."""
    return _OWN_BYTES + _PAIR_BYTES * num_others


def pack_logprobs(tokens: Sequence[TokenLogprobs], num_others: int) -> bytes:
    """Tokens with `num_others` each, or fewer where a vocabulary has no more."""
    return b"".join([_pack(token, num_others) for token in tokens])


def pack_logprob_rows(
    own: NDArray[np.float32], top_ids: NDArray[np.int64], top: NDArray[np.float32], num_others: int
) -> bytes:
    """Of tokens [n] whose likeliest ones [n, at most num_others] stand in arrays."""
    pair = np.dtype([("token_id", "<u4"), ("logprob", "<f4")])
    rows = np.zeros(len(own), np.dtype([("own", "<f4"), ("others", pair, (num_others,))]))
    rows["own"] = np.maximum(own, LEAST_LOGPROB)
    num_known = top_ids.shape[1]
    rows["others"]["logprob"][:, num_known:] = np.nan  # a vocabulary has no more
    rows["others"]["token_id"][:, :num_known] = top_ids
    rows["others"]["logprob"][:, :num_known] = np.maximum(top, LEAST_LOGPROB)
    return rows.tobytes()


def unpack_logprobs(
    packed: bytes, num_tokens: int, num_others: int, vocab_size: int
) -> tuple[TokenLogprobs, ...]:
    """Of so many tokens.

    Raises:
        RemoteProtocolError: the length does not fit, or a number is none.
    """
    size = packed_bytes(num_others)
    if len(packed) != num_tokens * size:
        raise RemoteProtocolError(
            f"{len(packed)} bytes of log-probabilities for {num_tokens} tokens of {size}"
        )
    return tuple(
        _unpack(packed[start : start + size], num_others, vocab_size)
        for start in range(0, len(packed), size)
    )


def _pack(token: TokenLogprobs, num_others: int) -> bytes:
    own = math.nan if token.logprob is None else max(token.logprob, LEAST_LOGPROB)
    numbers: list[int | float] = [own]
    for i in range(num_others):
        token_id, logprob = token.top[i] if i < len(token.top) else (0, math.nan)
        numbers += (token_id, max(logprob, LEAST_LOGPROB))
    return struct.pack(f"<f{'If' * num_others}", *numbers)


def _unpack(packed: bytes, num_others: int, vocab_size: int) -> TokenLogprobs:
    own, *others = struct.unpack(f"<f{'If' * num_others}", packed)
    pairs = [pair for pair in zip(others[::2], others[1::2], strict=True) if pair[1] == pair[1]]
    for number in (own, *(logprob for _, logprob in pairs)):
        if not (math.isnan(number) or LEAST_LOGPROB <= number <= 0):
            raise RemoteProtocolError(f"{number} is no log-probability")
    if any(token_id >= vocab_size for token_id, _ in pairs):
        raise RemoteProtocolError("log-probabilities name a token beyond the vocabulary")
    return TokenLogprobs(None if math.isnan(own) else own, tuple(pairs))
