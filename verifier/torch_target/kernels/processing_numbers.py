"""How a round's rows are processed, as one array of integers, so that one copy takes it to a GPU.

A kernel reads a record for each row of a check that asks, and lists behind the records. This module
must never import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.speculation.logit_processors import min_p_depth
from verifier.target.processing import Additions
from verifier.target.round import DraftCheck


class ProcessingRecord(NamedTuple):
    """What is done to one row; its fields are the columns of a record.

    A list is named by where it begins in the array, and stands there column by column.
    """

    row: int  # of the logits
    first_addition: int  # token ids, then bits of float32 that are added
    num_additions: int
    first_seen: int  # token ids, then bits of float32: how often each was written
    num_seen: int  # of them, before the check's first draft; the drafts may name others behind
    num_penalised: int  # with those
    first_draft: int  # of each draft token, where it stands among the tokens seen
    num_before: int  # draft tokens before the row
    repetition: int  # penalties, and how far below the largest logit a token may lie:
    frequency: int  # bits of float32
    presence: int
    depth: int  # infinite: as far as it likes


PROCESSING_COLUMNS = ProcessingRecord._fields


class ProcessingNumbers(NamedTuple):
    """All that the kernel reads."""

    numbers: NDArray[np.int32]  # records, then lists
    num_records: int

    @classmethod
    def of(cls, checks: Sequence[DraftCheck]) -> ProcessingNumbers | None:
        """Of checks whose rows stand one after the other; None: none of them asks."""
        num_records = sum([check.num_logit_rows for check in checks if check.processing])
        if not num_records:
            return None
        lists = _Lists(num_records * len(PROCESSING_COLUMNS))
        records: list[ProcessingRecord] = []
        first_row = 0
        for check in checks:
            if check.processing is not None:
                records += _records(check, first_row, lists)
            first_row += check.num_logit_rows
        numbers = [np.array(records, dtype=np.int32).reshape(-1), *lists.parts]
        return cls(np.concatenate(numbers), num_records)


class _Lists:
    """What stands behind the records."""

    def __init__(self, first: int) -> None:
        self.parts: list[NDArray[np.int32]] = []
        self._end = first

    def add(self, *columns: NDArray[np.generic]) -> int:
        """Columns of integers or of float32; returns where they begin."""
        first = self._end
        for column in columns:
            is_float = column.dtype == np.float32
            self.parts.append(column.view(np.int32) if is_float else column.astype(np.int32))
            self._end += len(column)
        return first

    def add_additions(self, added: Additions, num_rows: int) -> tuple[int, int]:
        """Where they begin and how many there are; none where no row needs them."""
        num_added = len(added.token_ids) if num_rows else 0
        return self.add(added.token_ids, added.values) if num_added else 0, num_added


def _records(check: DraftCheck, first_row: int, lists: _Lists) -> list[ProcessingRecord]:
    assert check.processing is not None
    processing, num_rows = check.processing, check.num_logit_rows
    num_early = processing.num_early(check.position, num_rows)
    early = lists.add_additions(processing.early, num_early)
    late = lists.add_additions(processing.late, num_rows - num_early)
    penalties = _penalties(check, lists)
    asked = processing.processors
    factors = asked.repetition_penalty, asked.frequency_penalty, asked.presence_penalty
    bits = np.array([*factors, min_p_depth(asked, check.sampling)], np.float32).view(np.int32)
    return [
        ProcessingRecord(
            first_row + i, *(early if i < num_early else late), *penalties, i, *bits.tolist()
        )
        for i in range(num_rows)
    ]


def _penalties(check: DraftCheck, lists: _Lists) -> tuple[int, int, int, int]:
    """`first_seen` to `first_draft`."""
    seen = check.seen
    if seen is None:
        return 0, 0, 0, 0
    token_ids = seen.with_drafts(check.draft_token_ids)
    counts = np.zeros(len(token_ids), np.float32)
    counts[: len(seen.token_ids)] = seen.num_written
    first_seen = lists.add(token_ids, counts)
    return first_seen, len(seen.token_ids), len(token_ids), lists.add(seen.draft_places)
