"""The numbers of `shared.speculation.noise` for a small vocabulary, many positions at a time.

The same bits: single draws cost 60 µs each, which would make a test of many samples take minutes.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.speculation.noise import Domain, philox, to_uniforms

_POSITIONS = 512  # of one computation
_MAX_BLOCKS = 1024
_LANES = 4


class NoiseTable:
    """Stands in for `uniform` and `gumbel` of `shared.speculation.noise`."""

    def __init__(self, vocab_size: int) -> None:
        self._num_counters = -(-vocab_size // _LANES)
        self._uniforms = functools.lru_cache(_MAX_BLOCKS)(self._compute_uniforms)
        self._gumbels = functools.lru_cache(_MAX_BLOCKS)(self._compute_gumbels)

    def uniform(self, seed: int, position: int, domain: Domain) -> float:
        """See `shared.speculation.noise.uniform`."""
        return float(self._uniforms(seed, position // _POSITIONS, domain)[position % _POSITIONS, 0])

    def gumbel(
        self, seed: int, position: int, domain: Domain, token_ids: ArrayLike
    ) -> NDArray[np.float64]:
        """See `shared.speculation.noise.gumbel`."""
        row = self._gumbels(seed, position // _POSITIONS, domain)[position % _POSITIONS]
        return np.asarray(row[token_ids])

    def _compute_uniforms(self, seed: int, block: int, domain: Domain) -> NDArray[np.float32]:
        positions = np.arange(block * _POSITIONS, (block + 1) * _POSITIONS, dtype=np.uint64)
        counters = np.zeros((_POSITIONS * self._num_counters, _LANES), dtype=np.uint64)
        counters[:, 0] = np.tile(np.arange(self._num_counters), _POSITIONS)
        counters[:, 1] = np.repeat(positions, self._num_counters)
        counters[:, 2] = int(domain)
        words = philox(counters, (seed & 0xFFFFFFFF, seed >> 32))
        return to_uniforms(words).reshape(_POSITIONS, self._num_counters * _LANES)

    def _compute_gumbels(self, seed: int, block: int, domain: Domain) -> NDArray[np.float64]:
        waiting_times = -np.log1p(-self._uniforms(seed, block, domain).astype(np.float64))
        return np.asarray(-np.log(waiting_times))
