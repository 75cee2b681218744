"""Log-probabilities of tokens on the wire: for each token 4 bytes, and 8 for each other one.

They are the target's own, of its logits as they are: before penalties, biases and temperature.
Little-endian float32, then as many pairs of token id and float32 as were asked for, the likeliest
first.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.errors import RemoteProtocolError

# JSON has no infinity; OpenAI's API and vLLM write this for it.
LEAST_LOGPROB = -9999.0
_OWN_BYTES, _PAIR_BYTES = 4, 8
# Of one prompt: 21,845 tokens with one other each, 1,598 with 20. A board makes text of them at
# once, which takes 0.1 s of a PC's core.
MAX_PROMPT_LOGPROB_BYTES = 1 << 18


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
    rows = np.zeros(len(own), _row_type(num_others))
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
    rows = np.frombuffer(packed, _row_type(num_others))
    own, top_ids, top = rows["own"], rows["others"]["token_id"], rows["others"]["logprob"]
    for numbers in (own, top):
        is_wrong = ~(np.isnan(numbers) | ((numbers >= LEAST_LOGPROB) & (numbers <= 0)))
        if is_wrong.any():
            raise RemoteProtocolError(f"{numbers[is_wrong][0]} is no log-probability")
    is_there = ~np.isnan(top)
    if (top_ids[is_there] >= vocab_size).any():
        raise RemoteProtocolError("log-probabilities name a token beyond the vocabulary")
    counts = is_there.sum(1).tolist()  # those that a vocabulary does not have stand last
    return tuple(
        [
            TokenLogprobs(None if one != one else one, tuple(zip(ids[:n], others[:n], strict=True)))
            for one, ids, others, n in zip(
                own.tolist(), top_ids.tolist(), top.tolist(), counts, strict=True
            )
        ]
    )


@lru_cache
def _row_type(num_others: int) -> np.dtype[np.void]:
    pair = np.dtype([("token_id", "<u4"), ("logprob", "<f4")])
    return np.dtype([("own", "<f4"), ("others", pair, (num_others,))])


def _pack(token: TokenLogprobs, num_others: int) -> bytes:
    own = math.nan if token.logprob is None else max(token.logprob, LEAST_LOGPROB)
    numbers: list[int | float] = [own]
    for i in range(num_others):
        token_id, logprob = token.top[i] if i < len(token.top) else (0, math.nan)
        numbers += (token_id, max(logprob, LEAST_LOGPROB))
    return struct.pack(f"<f{'If' * num_others}", *numbers)
