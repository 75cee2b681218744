"""Counter-based random numbers that both ends can compute: Philox4x32-10 over what is drawn.

A number depends on (seed, position, domain, token id) and on nothing else, so a draw can be
repeated after any disconnect and at any place.  The integer words and the uniforms are pinned
bit for bit by test vectors; the verifier's torch form must give the same ones.  This module
must never keep state.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Philox4x32-10 as plain integers, for numpy, torch and kernels alike.
PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_WEYL = (0x9E3779B9, 0xBB67AE85)  # added to the key after each of its rounds
PHILOX_ROUNDS = 10
LOW_WORD = 0xFFFFFFFF
_WORD_BITS = np.uint64(32)

# 1 - 2**-24: a uniform of exactly 1 would be an infinite waiting time in the exponential race.
LARGEST_UNIFORM = np.float32(1 - 2**-24)


class Domain(IntEnum):
    """What a random number is for; numbers of different domains are independent."""

    DRAFT = 0  # the board's draws in `rejection`
    ACCEPT = 1  # accept or reject a draft token
    RECOVERED = 2  # the target's token in place of the first rejected one
    BONUS = 3  # the target's extra token, and the board's guess of it
    COUPLED = 4  # the noise that both ends share in `coupled`


def philox(counter: NDArray[np.uint64], key: tuple[int, int]) -> NDArray[np.uint64]:
    """Philox4x32-10 of counters [n, 4] under a 2-word key; 32-bit words held in uint64 [n, 4]."""
    c0, c1, c2, c3 = (counter[:, i] for i in range(4))
    k0, k1 = key
    multipliers, low_word = np.array(PHILOX_MULTIPLIERS, dtype=np.uint64), np.uint64(LOW_WORD)
    for _ in range(PHILOX_ROUNDS):
        product0 = multipliers[0] * c0
        product1 = multipliers[1] * c2
        c0 = (product1 >> _WORD_BITS) ^ c1 ^ np.uint64(k0)
        c2 = (product0 >> _WORD_BITS) ^ c3 ^ np.uint64(k1)
        c1, c3 = product1 & low_word, product0 & low_word
        k0, k1 = (k0 + PHILOX_WEYL[0]) & LOW_WORD, (k1 + PHILOX_WEYL[1]) & LOW_WORD
    return np.stack([c0, c1, c2, c3], axis=1)


def words(seed: int, position: int, domain: Domain, token_ids: ArrayLike) -> NDArray[np.uint64]:
    """One 32-bit word for each token id [n].

    It is word `id % 4` of counter (id // 4, position, domain, 0) under the seed as key.
    """
    ids = np.asarray(token_ids, dtype=np.uint64)
    counter = np.empty((len(ids), 4), dtype=np.uint64)
    counter[:, 0] = ids >> np.uint64(2)
    counter[:, 1] = position
    counter[:, 2] = int(domain)
    counter[:, 3] = 0
    lanes = (ids & np.uint64(3)).astype(np.intp)
    output = philox(counter, (seed & LOW_WORD, (seed >> 32) & LOW_WORD))
    return output[np.arange(len(ids)), lanes]


def to_uniforms(random_words: NDArray[np.uint64]) -> NDArray[np.float32]:
    """float32 in [2**-33, 1 - 2**-24]: word * 2**-32 + 2**-33, each step rounded to nearest.

    Small values keep their relative precision, so that a token of probability 1e-7 is drawn as
    often as it should be.
    """
    scaled = random_words.astype(np.float32) * np.float32(2**-32) + np.float32(2**-33)
    clipped: NDArray[np.float32] = np.minimum(scaled, LARGEST_UNIFORM)
    return clipped


def uniforms(seed: int, position: int, domain: Domain, token_ids: ArrayLike) -> NDArray[np.float32]:
    """One uniform for each token id [n]."""
    return to_uniforms(words(seed, position, domain, token_ids))


def uniform(seed: int, position: int, domain: Domain) -> float:
    """The one uniform of a decision that has no token id."""
    return float(uniforms(seed, position, domain, [0])[0])


def gumbel(seed: int, position: int, domain: Domain, token_ids: ArrayLike) -> NDArray[np.float64]:
    """Gumbel noise for each token id [n]: -log(E) with the exponential E = -log(1 - uniform)."""
    return -np.log(-np.log1p(-uniforms(seed, position, domain, token_ids).astype(np.float64)))
