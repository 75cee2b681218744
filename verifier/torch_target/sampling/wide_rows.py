"""Rows of which very many tokens may be drawn: no top-k or top-p, or none that cuts much away.

A draw needs a random number for each token of the vocabulary, yet a token that is too unlikely to
arrive before the best one seen needs none, and most of the others need only an integer comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verifier.torch_target.kernels.row_records import RACE_MARGIN
from verifier.torch_target.sampling.exponential_race import DraftRows, first_to_arrive, residual
from verifier.torch_target.sampling.logit_rows import BLOCK_IDS, LogitRows, PaddedLists
from verifier.torch_target.sampling.noise import CHUNK_COUNTERS, LANES, counter_words, waiting_times
from verifier.torch_target.sampling.row_ends import RowEnds

# Blocks whose likeliest tokens race first, so that the winner bounds all others. 32 hold most of
# the mass of a text model's row; about one other token is then left to look at.
_FIRST_BLOCKS = 128
_SMALLEST_WAITING_TIME = 2**-33  # of the smallest uniform
_COUNTERS_OF_BLOCK = BLOCK_IDS // LANES


@dataclass(frozen=True, slots=True)
class WideRows:
    """`TargetRows` in place, with the logit at which each of them ends."""

    rows: LogitRows
    row_numbers: Tensor  # [num_rows] int64
    temperatures: Tensor  # [num_rows] float64
    ends: RowEnds  # totals are ones where no probability is asked for

    def probs(self, index: Tensor, token_ids: Tensor) -> Tensor:
        return self._weights(index, token_ids) / self.ends.totals[index, None]

    def draw(self, index: Tensor, keys: Tensor, drafts: DraftRows | None) -> Tensor:
        if drafts is not None:
            drafts = drafts.scaled(self.ends.totals[index[drafts.index]])
        # Every token of a draft takes one of them out at most.
        num_first = _FIRST_BLOCKS + (0 if drafts is None else drafts.token_ids.shape[1])
        likely = self.rows.likely(self.row_numbers[index], num_first)
        weights = residual(likely, self._weights(index, likely), drafts)
        bounds = (waiting_times(keys, likely) / weights).amin(1)
        token_ids = self._contenders(index, keys, bounds)
        return first_to_arrive(keys, token_ids, self._weights(index, token_ids), drafts)

    def _weights(self, index: Tensor, token_ids: Tensor) -> Tensor:
        rows = self.row_numbers[index]
        logits = self.rows.at(rows, token_ids)
        weights = self.rows.weights(rows, logits, self.temperatures[index])
        return weights.masked_fill_(~self.ends.keep(index, token_ids, logits), 0)

    def _contenders(self, index: Tensor, keys: Tensor, bounds: Tensor) -> Tensor:
        """Ids that may arrive within bounds [n]: [n, k], shorter lists end with id 0.

        A waiting time is never shorter than its uniform, so a token whose uniform exceeds
        bound × weight is out.
        """
        scales = (bounds * RACE_MARGIN).to(torch.float32)
        block_max = self.rows.block_max[self.row_numbers[index]]
        limits = self._limits(index, block_max, scales)
        limits.masked_fill_(block_max < self.ends.lowest[index, None], 0)
        draw_of_block, block = (limits >= _SMALLEST_WAITING_TIME).nonzero(as_tuple=True)
        chunk = CHUNK_COUNTERS // _COUNTERS_OF_BLOCK
        chunks = zip(torch.split(draw_of_block, chunk), torch.split(block, chunk), strict=True)
        contenders = [
            self._contenders_of_blocks(index, keys, scales, draws, blocks)
            for draws, blocks in chunks
        ]
        draws, token_ids = (torch.cat(parts) for parts in zip(*contenders, strict=True))
        return PaddedLists.of(draws, len(index)).pad(token_ids, 0)

    def _contenders_of_blocks(
        self, index: Tensor, keys: Tensor, scales: Tensor, draws: Tensor, blocks: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits = self.rows.blocks[self.row_numbers[index[draws]], blocks]  # [num_blocks, 64]
        limits = self._limits(index[draws], logits, scales[draws] * 2.0**32)
        counters_of_block = torch.arange(_COUNTERS_OF_BLOCK, device=blocks.device)[:, None]
        counters = blocks * _COUNTERS_OF_BLOCK + counters_of_block
        words = counter_words(keys[:, draws], counters)  # [4, 16, num_blocks]
        limits = limits.view(len(blocks), -1, LANES).permute(2, 1, 0)
        lane, counter, hit = (words.to(torch.float32) <= limits).nonzero(as_tuple=True)
        order = (hit * BLOCK_IDS + counter * LANES + lane).sort().values
        hit = order // BLOCK_IDS
        return draws[hit], blocks[hit] * BLOCK_IDS + order % BLOCK_IDS

    def _limits(self, index: Tensor, logits: Tensor, scales: Tensor) -> Tensor:
        """Weights of logits [n, k] times scales [n], in float32."""
        inverse = (1 / self.temperatures[index]).to(torch.float32)
        largest = self.rows.row_max[self.row_numbers[index]]
        weights = (logits - largest[:, None]).mul_(inverse[:, None]).exp_()
        return weights.mul_(scales[:, None])
