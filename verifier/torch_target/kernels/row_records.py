"""The checks of a round as one record of integers for each row of logits, and outcomes from rows.

A kernel that samples rows on a GPU reads these records and writes one result for each row; what
a row needs of the others (how many drafts survived) is put together here, on the CPU.  This
module must never import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.speculation.noise import Domain
from verifier.target.round import NON_FINITE_LOGITS, DraftCheck, ItemOutcome

# Columns of `records`, one row for each row of logits.
RECORD_COLUMNS = (
    "is_greedy",  # the most likely token; everything below is unused
    "draft_token_id",  # to be put to the test; -1: the row is only drawn from
    "first_entry",  # of the draft's distribution, in `entries`
    "num_entries",
    "weight_total",  # of the draft's distribution
    "top_k",  # 0: off
    "seed",
    "position",
    "domain",  # of the draw
    "temperature",  # bits of a float64
    "top_p",  # bits of a float64; above 1: off
)
# Columns of `results`, one row for each row of logits.
RESULT_COLUMNS = ("token_id", "accept_prob", "survives")
BROKEN_ROW = -1  # in place of a token id

_OFF = 2.0  # no mass reaches it, whatever the rounding


@dataclass(frozen=True, slots=True)
class RowRecords:
    """What a kernel must know to sample every row of a round by itself."""

    records: NDArray[np.int64]  # [num_rows, len(RECORD_COLUMNS)]
    entries: NDArray[np.int32]  # [num_entries, 2]: token id and weight, of all draft distributions

    @classmethod
    def of(cls, checks: Sequence[DraftCheck], vocab_size: int) -> RowRecords:
        """Records of checks whose rows stand one after the other."""
        records: list[list[int]] = []
        ids, weights = [], []
        num_entries = 0
        for check in checks:
            common = _common(check, vocab_size)
            for i in range(check.num_logit_rows):
                draft = [-1, 0, 0, 0]
                if check.is_tested and i < len(check.rows):
                    row = check.rows[i]
                    total = int(row.weights.sum(dtype=np.int64))
                    draft = [check.draft_token_ids[i], num_entries, len(row.token_ids), total]
                    ids.append(row.token_ids)
                    weights.append(row.weights)
                    num_entries += len(row.token_ids)
                place = [check.seed, check.position + i, _domain(check, i)]
                records.append([common[0], *draft, common[1], *place, *common[2:]])
        entries = np.zeros((num_entries, 2), np.int32)
        if num_entries:
            entries[:, 0], entries[:, 1] = np.concatenate(ids), np.concatenate(weights)
        shape = (len(records), len(RECORD_COLUMNS))
        return cls(np.array(records, dtype=np.int64).reshape(shape), entries)


def outcomes(checks: Sequence[DraftCheck], results: NDArray[np.float64]) -> list[ItemOutcome]:
    """What the results of all rows [num_rows, len(RESULT_COLUMNS)] mean for each check."""
    token_ids = results[:, 0].astype(np.int64).tolist()
    accept_probs = results[:, 1].tolist()
    survives = results[:, 2].astype(bool).tolist()
    made, start = [], 0
    for check in checks:
        rows = slice(start, start + check.num_logit_rows)
        start = rows.stop
        made.append(_outcome(check, token_ids[rows], accept_probs[rows], survives[rows]))
    return made


def _outcome(
    check: DraftCheck, token_ids: list[int], accept_probs: list[float], survives: list[bool]
) -> ItemOutcome:
    if BROKEN_ROW in token_ids:
        return ItemOutcome(0, None, failure=NON_FINITE_LOGITS)
    drafts = check.draft_token_ids
    probs: tuple[float, ...] = ()
    if check.is_tested:
        del survives[len(drafts) :]
        probs = tuple(accept_probs[: len(drafts)])
    else:
        survives = [ours == theirs for ours, theirs in zip(token_ids, drafts, strict=False)]
        if check.mode == "rejection":  # a greedy target gives all its probability to one token
            probs = tuple(map(float, survives))
    num_accepted = survives.index(False) if False in survives else len(drafts)
    token_id = token_ids[num_accepted] if num_accepted < len(token_ids) else None
    return ItemOutcome(num_accepted, token_id, probs)


def _common(check: DraftCheck, vocab_size: int) -> tuple[int, int, int, int]:
    """What all rows of a check share: is_greedy, top_k, and the bits of temperature and top_p."""
    sampling = check.sampling
    top_k = sampling.top_k if sampling.top_k < vocab_size else 0
    top_p = sampling.top_p if sampling.top_p < 1 else _OFF
    temperature_bits, top_p_bits = np.array([sampling.temperature, top_p]).view(np.int64).tolist()
    return int(sampling.is_greedy), top_k, temperature_bits, top_p_bits


def _domain(check: DraftCheck, row: int) -> Domain:
    if check.mode == "coupled":
        return Domain.COUPLED
    return Domain.RECOVERED if row < len(check.draft_token_ids) else Domain.BONUS
