"""The checks of a round as one record of integers for each row of logits, and outcomes from rows.

A kernel that samples rows on a GPU reads these records and writes one result for each row; what
a row needs of the others (how many drafts survived) is put together here, on the CPU. This
module must never import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.speculation.noise import Domain
from shared.speculation.sampling import SamplingParameters
from shared.speculation.sparse_row import SparseRow
from verifier.target.round import DraftCheck, ItemFailure, ItemOutcome


class Record(NamedTuple):
    """What a kernel must know of one row of logits; its fields are the columns of `records`."""

    is_greedy: int  # the most likely token; everything below is unused
    draft_token_id: int  # to be put to the test; -1: the row is only drawn from
    first_entry: int  # of the draft's distribution, in `entries`
    num_entries: int
    weight_total: int  # of the draft's distribution
    top_k: int  # 0: off
    seed: int
    position: int
    domain: int  # of the draw
    temperature: int  # bits of a float64
    top_p: int  # bits of a float64; above 1: off


# Kernels and the code around them ask for a column by its name.
RECORD_COLUMNS = Record._fields
ENTRY_COLUMNS = ("token_id", "weight")  # of `entries`
RESULT_COLUMNS = ("token_id", "accept_prob", "survives")  # one row for each row of logits
BROKEN_ROW = -1  # in place of a token id

TOP_P_OFF = 2.0  # no mass reaches it, whatever the rounding
# A waiting time over a weight, both in float32, is off by less than this share.
RACE_MARGIN = 1.0001


@dataclass(frozen=True, slots=True)
class RowRecords:
    """What a kernel must know to sample every row of a round by itself."""

    records: NDArray[np.int64]  # [num_rows, len(RECORD_COLUMNS)]
    entries: NDArray[np.int32]  # [num_entries, len(ENTRY_COLUMNS)], of all draft distributions

    @classmethod
    def of(cls, checks: Sequence[DraftCheck], vocab_size: int) -> RowRecords:
        """Records of checks whose rows stand one after the other."""
        records: list[Record] = []
        draft_rows: list[SparseRow] = []
        num_entries = 0
        for check in checks:
            sampling = _sampling(check.sampling, vocab_size)
            for i in range(check.num_logit_rows):
                draft = _NO_DRAFT
                if check.is_tested and i < len(check.rows):
                    row = check.rows[i]
                    total = int(row.weights.sum(dtype=np.int64))
                    draft = _Draft(check.draft_token_ids[i], num_entries, len(row.token_ids), total)
                    draft_rows.append(row)
                    num_entries += draft.num_entries
                records.append(_record(check, i, sampling, draft))
        shape = (len(records), len(RECORD_COLUMNS))
        return cls(np.array(records, dtype=np.int64).reshape(shape), _entries(draft_rows))


def outcomes(checks: Sequence[DraftCheck], results: NDArray[np.float64]) -> list[ItemOutcome]:
    """What the results of all rows [num_rows, len(RESULT_COLUMNS)] mean for each check."""
    columns = dict(zip(RESULT_COLUMNS, results.T, strict=True))
    token_ids = columns["token_id"].astype(np.int64).tolist()
    accept_probs = columns["accept_prob"].tolist()
    survives = columns["survives"].astype(bool).tolist()
    answers, start = [], 0
    for check in checks:
        rows = slice(start, start + check.num_logit_rows)
        start = rows.stop
        answers.append(_outcome(check, token_ids[rows], accept_probs[rows], survives[rows]))
    return answers


def _outcome(
    check: DraftCheck, token_ids: list[int], accept_probs: list[float], survives: list[bool]
) -> ItemOutcome:
    if BROKEN_ROW in token_ids:
        return ItemOutcome(0, None, failure=ItemFailure.NON_FINITE_LOGITS)
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


class _Sampling(NamedTuple):
    """What all rows of a check share."""

    is_greedy: int
    top_k: int
    temperature_bits: int
    top_p_bits: int


class _Draft(NamedTuple):
    """The draft token that a row puts to the test, and where its distribution is."""

    token_id: int
    first_entry: int
    num_entries: int
    weight_total: int


_NO_DRAFT = _Draft(-1, 0, 0, 0)


def _sampling(sampling: SamplingParameters, vocab_size: int) -> _Sampling:
    top_k = sampling.top_k if sampling.top_k < vocab_size else 0
    top_p = sampling.top_p if sampling.top_p < 1 else TOP_P_OFF
    temperature_bits, top_p_bits = np.array([sampling.temperature, top_p]).view(np.int64).tolist()
    return _Sampling(int(sampling.is_greedy), top_k, temperature_bits, top_p_bits)


def _record(check: DraftCheck, row: int, sampling: _Sampling, draft: _Draft) -> Record:
    return Record(
        is_greedy=sampling.is_greedy,
        draft_token_id=draft.token_id,
        first_entry=draft.first_entry,
        num_entries=draft.num_entries,
        weight_total=draft.weight_total,
        top_k=sampling.top_k,
        seed=check.seed,
        position=check.position + row,
        domain=_domain(check, row),
        temperature=sampling.temperature_bits,
        top_p=sampling.top_p_bits,
    )


def _entries(draft_rows: Sequence[SparseRow]) -> NDArray[np.int32]:
    num_entries = sum(len(row.token_ids) for row in draft_rows)
    entries = np.zeros((num_entries, len(ENTRY_COLUMNS)), np.int32)
    columns = dict(zip(ENTRY_COLUMNS, entries.T, strict=True))
    if draft_rows:
        columns["token_id"][:] = np.concatenate([row.token_ids for row in draft_rows])
        columns["weight"][:] = np.concatenate([row.weights for row in draft_rows])
    return entries


def _domain(check: DraftCheck, row: int) -> Domain:
    if check.mode == "coupled":
        return Domain.COUPLED
    return Domain.RECOVERED if row < len(check.draft_token_ids) else Domain.BONUS
