"""Where rows end of which top-k or top-p keeps many tokens, found without sorting a vocabulary.

A histogram over the depth of the logits says in which narrow band of them a row ends; only the
tokens of that band are sorted. Every row is cut by itself, so that no other one changes its end.
The rules are those of `shared.speculation.sampling.probabilities`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verifier.torch_target.sampling.logit_rows import LogitRows, PaddedLists, row_sums

# Tokens cut at once: with more the arrays leave a core's cache.
_CHUNK_TOKENS = 1 << 18

# A band is 1/512 of a power of two of the depth (largest logit - logit) / temperature, for depths
# from 2**-32 on; what is nearer to the largest is one band, what is deeper than 128 another.
_BAND_SHIFT = 23 - 9
_FIRST_BAND = (127 - 32) << 9
_NUM_BANDS = 39 << 9

_NO_LAST_ID = torch.iinfo(torch.int64).max


@dataclass(frozen=True, slots=True)
class RowEnds:
    """Where rows end: at a logit, and at an id of the tokens that share it."""

    lowest: Tensor  # [num_rows] float32
    last_id: Tensor  # [num_rows] int64
    totals: Tensor  # [num_rows] float64, sums of the weights that are kept

    @classmethod
    def none(cls, totals: Tensor) -> RowEnds:
        """Rows with these totals that lose nothing."""
        lowest = torch.full_like(totals, -torch.inf, dtype=torch.float32)
        return cls(lowest, torch.full_like(totals, _NO_LAST_ID, dtype=torch.int64), totals)

    def keep(self, index: Tensor, token_ids: Tensor, logits: Tensor) -> Tensor:
        """Which ids [n, k] with these logits the rows at `index` [n] keep: bool [n, k]."""
        lowest, last_id = self.lowest[index, None], self.last_id[index, None]
        return (logits > lowest) | ((logits == lowest) & (token_ids <= last_id))


def row_ends(
    rows: LogitRows, numbers: Tensor, temperatures: Tensor, top_p: Tensor, top_k: Tensor | None
) -> RowEnds:
    """The ends of rows [n] by a top-k that is on, or none, and then top-p, off far above 1.

    Weights are right to 1e-6 of their row's.
    """
    num_rows = max(1, _CHUNK_TOKENS // rows.logits.shape[1])
    parts = []
    for start in range(0, len(numbers), num_rows):
        part = slice(start, start + num_rows)
        bands = _RowBands.of(rows, numbers[part], temperatures[part])
        parts.append(_ends(bands, top_p[part], None if top_k is None else top_k[part]))
    lowest, last_id, totals = zip(*((p.lowest, p.last_id, p.totals) for p in parts), strict=True)
    return RowEnds(torch.cat(lowest), torch.cat(last_id), torch.cat(totals))


def _ends(bands: _RowBands, top_p: Tensor, top_k: Tensor | None) -> RowEnds:
    weights = bands.depths.neg().exp_()
    ends = RowEnds.none(row_sums(weights))
    if top_k is not None:
        ends = bands.ends(torch.ones_like(weights), top_k.to(torch.float64), ends)
        weights = weights.where(bands.keep(ends), 0)
        ends = RowEnds(ends.lowest, ends.last_id, row_sums(weights))
    return bands.ends(weights, top_p * ends.totals, ends)


@dataclass(frozen=True, slots=True)
class _RowBands:
    """Some rows with the band that each token falls into, deeper ones for less likely tokens."""

    logits: Tensor  # [num_rows, vocab_size up to a whole block] float32
    depths: Tensor  # the same shape, (largest - logit) / temperature
    bands: Tensor  # the same shape, int64

    @classmethod
    def of(cls, rows: LogitRows, numbers: Tensor, temperatures: Tensor) -> _RowBands:
        logits = rows.logits[numbers]
        inverse = (1 / temperatures).to(torch.float32)[:, None]
        # Rounding keeps the order: no token is in a deeper band than a less likely one.
        depths = (rows.row_max[numbers, None] - logits).mul_(inverse)
        bands = depths.view(torch.int32).bitwise_right_shift(_BAND_SHIFT).sub_(_FIRST_BAND)
        return cls(logits, depths, bands.clamp_(0, _NUM_BANDS - 1).to(torch.int64))

    def keep(self, ends: RowEnds) -> Tensor:
        index = torch.arange(len(self.logits), device=self.logits.device)
        token_ids = torch.arange(self.logits.shape[1], device=self.logits.device)
        return ends.keep(index, token_ids[None], self.logits)

    def ends(self, counted: Tensor, wanted: Tensor, otherwise: RowEnds) -> RowEnds:
        """Where what is counted [num_rows, ids] reaches what is wanted [num_rows] float64."""
        before_band, band, is_reached = self._last_bands(counted, wanted)
        row, token_id = (self.bands == band[:, None]).nonzero(as_tuple=True)
        lists = PaddedLists.of(row, len(wanted))
        logits = lists.pad(self.logits[row, token_id], -torch.inf)
        logits, order = logits.sort(dim=1, descending=True, stable=True)
        token_ids = lists.pad(token_id, 0).gather(1, order)
        counts = lists.pad(counted[row, token_id].to(torch.float64), 0).gather(1, order)
        sums = before_band[:, None] + counts.cumsum(1)
        num_kept = 1 + (sums[:, :-1] < wanted[:, None]).sum(1, keepdim=True)
        last = num_kept.minimum(torch.bincount(row, minlength=len(wanted))[:, None]) - 1
        return RowEnds(
            logits.gather(1, last)[:, 0].where(is_reached, otherwise.lowest),
            token_ids.gather(1, last)[:, 0].where(is_reached, otherwise.last_id),
            sums.gather(1, last)[:, 0].where(is_reached, otherwise.totals),
        )

    def _last_bands(self, counted: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is counted before the band where what is wanted is reached, the band, and whether.

        Where it is never reached the band is that of the likeliest token.
        """
        num_rows = len(wanted)
        starts = torch.arange(0, num_rows * _NUM_BANDS, _NUM_BANDS, device=wanted.device)
        sums = torch.bincount(
            (self.bands + starts[:, None]).view(-1),
            weights=counted.to(torch.float64).view(-1),
            minlength=num_rows * _NUM_BANDS,
        ).view(num_rows, _NUM_BANDS)
        sums_so_far = sums.cumsum(1)
        is_reached = sums_so_far[:, -1] >= wanted
        band = (sums_so_far < wanted[:, None]).sum(1).where(is_reached, 0)
        before = sums_so_far.gather(1, band[:, None])[:, 0] - sums.gather(1, band[:, None])[:, 0]
        return before, band, is_reached
