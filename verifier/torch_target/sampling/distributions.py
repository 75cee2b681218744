"""The target's distributions in all sampled rows of a round, however each of them is cut.

Hides that rows with and without truncation are kept in different forms. Questions and answers are
plain numbers about rows of the round.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from torch import Tensor

from shared.speculation.noise import Domain
from shared.speculation.sampling import SamplingParameters
from shared.speculation.sparse_row import SparseRow
from shared.speculation.verification import SMALLEST_RESIDUAL_MASS
from verifier.torch_target.sampling.exponential_race import DraftRows, TargetRows
from verifier.torch_target.sampling.logit_rows import LogitRows
from verifier.torch_target.sampling.noise import noise_keys, uniforms
from verifier.torch_target.sampling.row_ends import RowEnds
from verifier.torch_target.sampling.truncated_rows import truncate
from verifier.torch_target.sampling.wide_rows import WideRows


@dataclass(frozen=True, slots=True)
class SampledRow:
    """One row of the round and how to draw from it."""

    number: int
    sampling: SamplingParameters  # not greedy
    needs_probs: bool  # False: it is only drawn from


@dataclass(frozen=True, slots=True)
class Draw:
    """One token to draw from a row, less the draft that was rejected there."""

    row_number: int
    seed: int
    position: int
    domain: Domain
    draft: SparseRow | None = None


class TargetDistributions:
    """What the target would draw in the rows of a round."""

    def __init__(self, rows: LogitRows, sampled: Sequence[SampledRow], vocab_size: int) -> None:
        self._device = rows.logits.device
        self._groups: list[TargetRows] = []
        self._seconds: list[float] = []  # that each group took until now
        started_at = time.perf_counter()
        for group_rows in _groups(rows, sampled, vocab_size):
            self._groups.append(group_rows)
            self._seconds.append(time.perf_counter() - started_at)
            started_at = time.perf_counter()
        self._places = {
            number: (group, index)
            for group, target_rows in enumerate(self._groups)
            for index, number in enumerate(target_rows.row_numbers.tolist())
        }

    def probs(self, tokens: Sequence[tuple[int, int]]) -> list[float]:
        """The target probability of each (row number, token id)."""
        answers = [0.0] * len(tokens)
        for rows, indices, index in self._by_group([number for number, _ in tokens]):
            token_ids = torch.tensor([[tokens[i][1]] for i in indices], device=self._device)
            for i, prob in zip(indices, rows.probs(index, token_ids)[:, 0].tolist(), strict=True):
                answers[i] = prob
        return answers

    def uniforms(self, decisions: Sequence[tuple[int, int, Domain]]) -> list[float]:
        """The uniform of each (seed, position, domain) that has no token id."""
        keys = noise_keys(decisions, self._device)
        return uniforms(keys, keys.new_zeros(len(decisions), 1))[:, 0].tolist()

    def draw(self, draws: Sequence[Draw]) -> list[int]:
        """The token of each draw."""
        token_ids = [0] * len(draws)
        for rows, indices, index in self._by_group([draw.row_number for draw in draws]):
            group_draws = [draws[i] for i in indices]
            keys = noise_keys([(d.seed, d.position, d.domain) for d in group_draws], self._device)
            drawn = rows.draw(index, keys, self._drafts(rows, index, group_draws))
            for i, token_id in zip(indices, drawn.tolist(), strict=True):
                token_ids[i] = token_id
        return token_ids

    def seconds_of(self, row_numbers: Collection[int]) -> float:
        """What one of these rows took, on average; nothing, where it is not sampled.

        Rows of a group are cut and drawn in the same way, and together, so they share its time.
        """
        groups = [self._places[number][0] for number in row_numbers if number in self._places]
        seconds = sum(self._seconds[i] / len(self._groups[i].row_numbers) for i in groups)
        return seconds / max(len(row_numbers), 1)

    def _by_group(
        self, row_numbers: Sequence[int]
    ) -> Iterator[tuple[TargetRows, list[int], Tensor]]:
        """The groups that hold the rows: which rows they are, and where they stand in the group."""
        for number, rows in enumerate(self._groups):
            indices = [i for i, row in enumerate(row_numbers) if self._places[row][0] == number]
            if indices:
                group_index = [self._places[row_numbers[i]][1] for i in indices]
                started_at = time.perf_counter()
                yield rows, indices, torch.tensor(group_index, device=self._device)
                self._seconds[number] += time.perf_counter() - started_at

    def _drafts(self, rows: TargetRows, index: Tensor, draws: Sequence[Draw]) -> DraftRows | None:
        drafts = {i: draw.draft for i, draw in enumerate(draws) if draw.draft is not None}
        if not drafts:
            return None
        shape = (len(drafts), max(len(row.token_ids) for row in drafts.values()))
        token_ids, probs = np.zeros(shape, dtype=np.int64), np.zeros(shape)
        for i, row in enumerate(drafts.values()):
            token_ids[i, : len(row.token_ids)] = row.token_ids
            probs[i, : len(row.token_ids)] = row.probs
        draw_index = torch.tensor(list(drafts), device=self._device)
        draft_ids = torch.from_numpy(token_ids).to(self._device)
        draft_probs = torch.from_numpy(probs).to(self._device)
        common = torch.minimum(rows.probs(index[draw_index], draft_ids), draft_probs)
        # The draft is the target up to rounding: nothing is left, the target itself is drawn from.
        is_empty = 1 - common.sum(1, keepdim=True) <= SMALLEST_RESIDUAL_MASS
        return DraftRows(draw_index, draft_ids, draft_probs.masked_fill(is_empty, 0))


def _groups(
    rows: LogitRows, sampled: Sequence[SampledRow], vocab_size: int
) -> Iterator[TargetRows]:
    effective = [(row, _effective(row.sampling, vocab_size)) for row in sampled]
    cut = [(row.number, s) for row, s in effective if s.top_k > 0 or s.top_p < 1]
    whole = [row for row, s in effective if s.top_k == 0 and s.top_p == 1]
    if cut:
        yield from truncate(rows, *zip(*cut, strict=True))
    for needs_probs in (True, False):
        alike = [row for row in whole if row.needs_probs == needs_probs]
        if alike:
            numbers = torch.tensor([row.number for row in alike], device=rows.logits.device)
            temperatures = torch.tensor(
                [row.sampling.temperature for row in alike],
                dtype=torch.float64,
                device=rows.logits.device,
            )
            totals = (
                rows.totals(numbers, temperatures) if needs_probs else torch.ones_like(temperatures)
            )
            yield WideRows(rows, numbers, temperatures, RowEnds.none(totals))


def _effective(sampling: SamplingParameters, vocab_size: int) -> SamplingParameters:
    if sampling.top_k < vocab_size:
        return sampling
    return msgspec.structs.replace(sampling, top_k=0)
