"""Log-probabilities of tokens on the wire: for each token 4 bytes, and 8 for each other one.

They are the target's own, of its logits as they are: before penalties, biases and temperature.
Little-endian float32, then as many pairs of token id and float32 as were asked for, the likeliest
first. This module must never import numpy: a board without a model does without it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import msgspec

from shared.errors import RemoteProtocolError

# JSON has no infinity; OpenAI's API and vLLM write this for it.
LEAST_LOGPROB = -9999.0
_OWN_BYTES, _PAIR_BYTES = 4, 8
# Of one prompt: 21,845 tokens with one other each, 1,598 with 20. A board keeps all of them until
# the last is there; to make text of them takes 0.1 s of a PC's core.
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
        [
            TokenLogprobs(_known(own), _pairs(others, vocab_size))
            for own, *others in struct.iter_unpack(_format(num_others), packed)
        ]
    )


def _known(logprob: float) -> float | None:
    if LEAST_LOGPROB <= logprob <= 0:
        return logprob
    if math.isnan(logprob):
        return None
    raise RemoteProtocolError(f"{logprob} is no log-probability")


def _pairs(numbers: list[float], vocab_size: int) -> tuple[tuple[int, float], ...]:
    """Ids with their numbers, as they stand in turn; those that a vocabulary lacks stand last."""
    pairs = []
    for token_id, number in zip(numbers[::2], numbers[1::2], strict=True):
        logprob = _known(number)
        if logprob is None:
            continue
        if token_id >= vocab_size:
            raise RemoteProtocolError("log-probabilities name a token beyond the vocabulary")
        pairs.append((int(token_id), logprob))
    return tuple(pairs)


def _pack(token: TokenLogprobs, num_others: int) -> bytes:
    own = math.nan if token.logprob is None else max(token.logprob, LEAST_LOGPROB)
    numbers: list[int | float] = [own]
    for i in range(num_others):
        token_id, logprob = token.top[i] if i < len(token.top) else (0, math.nan)
        numbers += (token_id, max(logprob, LEAST_LOGPROB))
    return struct.pack(_format(num_others), *numbers)


def _format(num_others: int) -> str:
    return f"<f{'If' * num_others}"
