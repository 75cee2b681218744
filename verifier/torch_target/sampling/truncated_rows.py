"""Rows cut by top-k or top-p: the tokens that survive, found without sorting the vocabulary.

Few of them are a list, many are a row with an end. The rules are those of
`shared.speculation.sampling.probabilities`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.speculation.sampling import SamplingParameters
from verifier.torch_target.kernels.row_records import TOP_P_OFF
from verifier.torch_target.sampling.exponential_race import DraftRows, TargetRows, first_to_arrive
from verifier.torch_target.sampling.logit_rows import LogitRows
from verifier.torch_target.sampling.row_ends import row_ends
from verifier.torch_target.sampling.wide_rows import WideRows

# Least probability of a candidate for top-p: at first one that 0.95 of a text model's rows can do
# with, then one for flatter rows; what needs more tokens is cut where it stands.
_TOP_P_LEVELS = (1e-3, 1e-4)

# Of a top-k; a longer list costs more than a look at all of the row.
_LONGEST_LIST = 1024


@dataclass(frozen=True, slots=True)
class TruncatedRows:
    """`TargetRows` as lists of their surviving tokens."""

    row_numbers: Tensor  # [num_rows] int64
    token_ids: Tensor  # [num_rows, k] int64
    kept_probs: Tensor  # [num_rows, k] float64, normalised; 0 for what did not survive

    def probs(self, index: Tensor, token_ids: Tensor) -> Tensor:
        same = token_ids[:, :, None] == self.token_ids[index, None, :]
        return (same * self.kept_probs[index, None, :]).sum(2)

    def draw(self, index: Tensor, keys: Tensor, drafts: DraftRows | None) -> Tensor:
        return first_to_arrive(keys, self.token_ids[index], self.kept_probs[index], drafts)


@dataclass(frozen=True, slots=True)
class _Cut:
    """Rows and how to cut them."""

    row_numbers: Tensor  # [num_rows] int64
    temperatures: Tensor  # [num_rows] float64
    top_k: Tensor  # [num_rows] int64
    top_p: Tensor  # [num_rows] float64

    @classmethod
    def of(cls, pairs: Sequence[tuple[int, SamplingParameters]], device: torch.device) -> _Cut:
        numbers, samplings = zip(*pairs, strict=True)
        return cls(
            torch.tensor(numbers, device=device),
            torch.tensor([s.temperature for s in samplings], dtype=torch.float64, device=device),
            torch.tensor([s.top_k for s in samplings], device=device),
            torch.tensor(
                [s.top_p if s.top_p < 1 else TOP_P_OFF for s in samplings],
                dtype=torch.float64,
                device=device,
            ),
        )

    def __getitem__(self, index: Tensor) -> _Cut:
        return _Cut(
            self.row_numbers[index],
            self.temperatures[index],
            self.top_k[index],
            self.top_p[index],
        )


def truncate(
    rows: LogitRows, row_numbers: Sequence[int], samplings: Sequence[SamplingParameters]
) -> Iterator[TargetRows]:
    """What survives in rows of which each has a top-k or a top-p, in groups of any order."""
    pairs = list(zip(row_numbers, samplings, strict=True))
    most = min(_LONGEST_LIST, rows.block_max.shape[1])
    short = [pair for pair in pairs if 0 < pair[1].top_k <= most]
    long = [pair for pair in pairs if pair[1].top_k > most]
    by_mass = [pair for pair in pairs if pair[1].top_k == 0]
    if short:
        yield _cut_by_rank(rows, _Cut.of(short, rows.logits.device))
    if long:
        yield _cut_wide(rows, _Cut.of(long, rows.logits.device), has_rank=True)
    if by_mass:
        yield from _cut_by_mass(rows, _Cut.of(by_mass, rows.logits.device))


def _cut_by_rank(rows: LogitRows, cut: _Cut) -> TruncatedRows:
    # At least k tokens reach the k-th largest of the block maxima.
    descending = rows.block_max[cut.row_numbers].sort(dim=1, descending=True).values
    thresholds = descending.gather(1, cut.top_k[:, None] - 1)[:, 0]
    token_ids, logits = rows.reaching(cut.row_numbers, thresholds)
    token_ids, weights = _most_likely_first(rows, cut, token_ids, logits)
    ranks = torch.arange(weights.shape[1], device=weights.device)
    weights = weights.masked_fill(ranks >= cut.top_k[:, None], 0)
    enough = cut.top_p * weights.sum(1)
    return TruncatedRows(cut.row_numbers, token_ids, _nucleus(weights, enough))


def _cut_by_mass(rows: LogitRows, cut: _Cut) -> Iterator[TargetRows]:
    totals = rows.totals(cut.row_numbers, cut.temperatures)
    for level in _TOP_P_LEVELS:
        largest = rows.row_max[cut.row_numbers].to(torch.float64)
        thresholds = largest + cut.temperatures * torch.log(totals * level)
        token_ids, logits = rows.reaching(cut.row_numbers, thresholds)
        token_ids, weights = _most_likely_first(rows, cut, token_ids, logits)
        enough = cut.top_p * totals
        is_enough = weights.sum(1) >= enough
        decided = is_enough.nonzero()[:, 0]
        if len(decided):
            kept_probs = _nucleus(weights[decided], enough[decided])
            yield TruncatedRows(cut.row_numbers[decided], token_ids[decided], kept_probs)
        if len(decided) == len(is_enough):
            return
        undecided = (~is_enough).nonzero()[:, 0]
        cut, totals = cut[undecided], totals[undecided]
    yield _cut_wide(rows, cut, has_rank=False)


def _cut_wide(rows: LogitRows, cut: _Cut, *, has_rank: bool) -> WideRows:
    top_k = cut.top_k if has_rank else None
    ends = row_ends(rows, cut.row_numbers, cut.temperatures, cut.top_p, top_k)
    return WideRows(rows, cut.row_numbers, cut.temperatures, ends)


def _most_likely_first(
    rows: LogitRows, cut: _Cut, token_ids: Tensor, logits: Tensor
) -> tuple[Tensor, Tensor]:
    """Ids, ascending before, sorted, and their weights; ties go to the smaller id."""
    logits, order = logits.sort(dim=1, descending=True, stable=True)
    return token_ids.gather(1, order), rows.weights(cut.row_numbers, logits, cut.temperatures)


def _nucleus(weights: Tensor, enough: Tensor) -> Tensor:
    """The smallest prefix of rows [n, k], most likely first, that weighs enough [n], normalised.

    Weights of ties with the largest are 1, so that their sums are exact, as the reference's are.
    """
    weight_before = weights.cumsum(1) - weights
    kept = weights.masked_fill(weight_before >= enough[:, None], 0)
    return kept / kept.sum(1, keepdim=True)
