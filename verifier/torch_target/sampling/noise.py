"""The numbers of `shared.speculation.noise` in torch, many rows at once, bit for bit.

Words are held in int64. A product of two 32-bit words may overflow it, but its 64 bits are the
right ones (two's complement), and every use masks what the sign did to the upper half. This
module must never keep state.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shared.speculation.noise import (
    LARGEST_UNIFORM,
    LOW_WORD,
    PHILOX_MULTIPLIERS,
    PHILOX_ROUNDS,
    PHILOX_WEYL,
    Domain,
)

LANES = 4  # words that one counter gives
_NUM_SCRATCH = 6

# Counters worked on at once: the few arrays of 256 KiB stay in a core's cache.
CHUNK_COUNTERS = 1 << 15


def noise_keys(draws: Sequence[tuple[int, int, Domain]], device: torch.device) -> Tensor:
    """What draws at (seed, position, domain) start from: [4, num_draws] int64."""
    words = [
        (seed & LOW_WORD, seed >> 32 & LOW_WORD, position, int(domain))
        for seed, position, domain in draws
    ]
    return torch.tensor(words, dtype=torch.int64, device=device).reshape(-1, 4).t().contiguous()


def counter_words(keys: Tensor, counters: Tensor) -> Tensor:
    """All words of counters [c, n] under keys [4, n]: int64 [4 lanes, c, n]."""
    num_rows, num_columns = counters.shape
    chunk = max(1, CHUNK_COUNTERS // max(1, num_rows))
    output = counters.new_empty(LANES, *counters.shape)
    scratch = counters.new_empty(_NUM_SCRATCH, num_rows, min(chunk, num_columns))
    for start in range(0, num_columns, chunk):
        columns = slice(start, start + chunk)
        part = counters[:, columns]
        _philox(keys[:, columns], part, output[:, :, columns], scratch[:, :, : part.shape[1]])
    return output


def words(keys: Tensor, token_ids: Tensor) -> Tensor:
    """One word for each token id [n, k] under keys [4, n]: int64 [n, k]."""
    lanes = counter_words(keys, (token_ids >> 2).t())
    return lanes.gather(0, (token_ids & 3).t()[None])[0].t()


def to_uniforms(random_words: Tensor) -> Tensor:
    """float32 in [2**-33, 1 - 2**-24], each step rounded as in `shared.speculation.noise`."""
    return (random_words.to(torch.float32) * 2**-32 + 2**-33).clamp_(max=float(LARGEST_UNIFORM))


def uniforms(keys: Tensor, token_ids: Tensor) -> Tensor:
    """One uniform for each token id [n, k] under keys [4, n]: float32 [n, k]."""
    return to_uniforms(words(keys, token_ids))


def waiting_times(keys: Tensor, token_ids: Tensor) -> Tensor:
    """One exponential waiting time for each token id, float64 [n, k]; -log of it is Gumbel."""
    return -torch.log1p(-uniforms(keys, token_ids).to(torch.float64))


def _philox(keys: Tensor, counters: Tensor, output: Tensor, scratch: Tensor) -> None:
    """Philox4x32-10 of (counter, position, domain, 0) into `output`; see `shared.speculation`.

    Everything happens in `scratch` [6, *counters.shape]: on a CPU a new array costs several times
    what it takes to fill it.
    """
    c0, c2, product0, product1, spare0, spare1 = scratch
    c1, c3 = keys[2], torch.zeros_like(keys[2])
    torch.mul(counters, PHILOX_MULTIPLIERS[0], out=product0)
    torch.mul(keys[3].expand_as(c0), PHILOX_MULTIPLIERS[1], out=product1)
    k0, k1 = keys[0].clone(), keys[1].clone()
    for number in range(PHILOX_ROUNDS):
        if number:
            torch.mul(c0, PHILOX_MULTIPLIERS[0], out=product0)
            torch.mul(c2, PHILOX_MULTIPLIERS[1], out=product1)
        _high_word(product1, c1, k0, out=c0)
        _high_word(product0, c3, k1, out=c2)
        c1, c3 = product1, product0
        product0, product1, spare0, spare1 = spare0, spare1, product0, product1
        k0.add_(PHILOX_WEYL[0])
        k1.add_(PHILOX_WEYL[1])
    output[0], output[2] = c0, c2
    torch.bitwise_and(c1, LOW_WORD, out=output[1])
    torch.bitwise_and(c3, LOW_WORD, out=output[3])


def _high_word(product: Tensor, counter: Tensor, key: Tensor, *, out: Tensor) -> None:
    # Key and counter may carry bits above the word; only the mask at the end drops them.
    torch.bitwise_right_shift(product, 32, out=out)
    out.bitwise_xor_(counter).bitwise_xor_(key).bitwise_and_(LOW_WORD)
