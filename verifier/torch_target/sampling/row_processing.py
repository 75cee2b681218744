"""The rows of a round's checks processed as their streams ask, all rows at once and in place.

The rules and their order are those of `shared.speculation.logit_processors`, to the last bit. What
is done is packed on the CPU, so that a GPU may still be making the logits; the draft tokens before
a row count in it. One item's rows must never change another's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.speculation.logit_processors import min_p_depth
from verifier.target.processing import SeenTokens
from verifier.target.round import DraftCheck

Send = Callable[[NDArray[np.generic]], Tensor]

# Rows that min_p looks at together on a GPU; see `logit_rows`.
_CHUNK_ROWS = 8


def process_rows(
    logits: Tensor, checks: Sequence[DraftCheck], send: Send = torch.from_numpy
) -> Tensor:
    """The rows to sample from [num_rows, vocab_size]: the same tensor where no stream asks.

    Else float32 rows, in the place of the given ones where these are float32. `send` takes an array
    to the logits' device.
    """
    starts = accumulate((check.num_logit_rows for check in checks), initial=0)
    asking = [pair for pair in zip(checks, starts, strict=False) if pair[0].processing is not None]
    if not asking:
        return logits
    changes = _Changes.of(asking, logits.shape[1])
    logits = logits.to(torch.float32).contiguous()
    changes.make(logits, send)
    return logits


@dataclass(frozen=True, slots=True)
class _Changes:
    """What is done to the rows of some checks."""

    added_at: NDArray[np.int64]  # flat places in the logits, distinct
    added: NDArray[np.float32]
    penalties: _Penalties | None
    min_p: list[tuple[int, int, float]]  # first row, the one after the last, depth

    @classmethod
    def of(cls, asking: Sequence[tuple[DraftCheck, int]], vocab_size: int) -> _Changes:
        places, values = [], []
        min_p: list[tuple[int, int, float]] = []
        for check, first_row in asking:
            assert check.processing is not None
            depth = min_p_depth(check.processing.processors, check.sampling)
            for i in range(check.num_logit_rows):
                row_additions = check.processing.additions_at(check.position + i)
                if len(row_additions.token_ids):
                    places.append(row_additions.token_ids + (first_row + i) * vocab_size)
                    values.append(row_additions.values)
            if depth < math.inf:
                min_p.append((first_row, first_row + check.num_logit_rows, depth))
        penalised = [pair for pair in asking if pair[0].seen is not None]
        return cls(
            np.concatenate(places or [np.zeros(0, dtype=np.int64)]),
            np.concatenate(values or [np.zeros(0, dtype=np.float32)]),
            _Penalties.of(penalised, vocab_size) if penalised else None,
            min_p,
        )

    def make(self, logits: Tensor, send: Send) -> None:
        flat = logits.view(-1)
        if len(self.added):
            places = send(self.added_at)
            flat[places] = flat[places] + send(self.added)
        if self.penalties is not None:
            self.penalties.take(flat, logits.shape[1], send)
        for first, last, depth in self.min_p:
            _keep_near_largest(logits[first:last], depth)


def _keep_near_largest(rows: Tensor, depth: float) -> None:
    """What lies more than `depth` below its row's largest logit gets -inf, in place."""
    if rows.is_cuda:
        for part in torch.split(rows, _CHUNK_ROWS):
            part.masked_fill_(part < part.amax(1, keepdim=True) - depth, -torch.inf)
        return
    # `threshold_` strikes out what is not above a number, in one pass, so it is given the one next
    # below; a row of 128,256 ids stays in a core's cache meanwhile. 80 rows took 4.8 ms of a core
    # this way, and 18 ms as above (EPYC 9005, 2026-11).
    for row in rows:
        lowest = torch.nextafter(row.amax() - depth, row.new_tensor(-torch.inf))
        torch.threshold_(row, lowest.item(), -torch.inf)


@dataclass(frozen=True, slots=True)
class _Penalties:
    """What was seen before the first row of each check, and what its drafts add in later ones."""

    checks: NDArray[np.int64]  # [num_checks, 2]: first row, number of rows
    factors: NDArray[np.float32]  # [num_checks, 3]: repetition, frequency, presence
    check_of: NDArray[np.int64]  # [num_seen] of each seen token
    token_ids: NDArray[np.int64]  # [num_seen]
    counts: NDArray[np.float32]  # [num_seen]
    num_places: int  # of all seen tokens in all their rows
    drafts_at: NDArray[np.int64]  # [num_drafted] flat places
    drafts_check_of: NDArray[np.int64]  # [num_drafted]
    drafts_counts: NDArray[np.float32]  # [num_drafted]

    @classmethod
    def of(cls, asking: Sequence[tuple[DraftCheck, int]], vocab_size: int) -> _Penalties:
        seen = [_seen(check) for check, _ in asking]
        lengths = [len(one.token_ids) for one in seen]
        num_rows = [check.num_logit_rows for check, _ in asking]
        drafts = [_drafted(check, first_row, vocab_size) for check, first_row in asking]
        index = np.arange(len(asking))
        return cls(
            checks=np.array([(first, n) for (_, first), n in zip(asking, num_rows, strict=True)]),
            factors=np.array([_factors(check) for check, _ in asking], dtype=np.float32),
            check_of=index.repeat(lengths),
            token_ids=np.concatenate([one.token_ids for one in seen]),
            counts=np.concatenate([one.num_written for one in seen]),
            num_places=sum(n * length for n, length in zip(num_rows, lengths, strict=True)),
            drafts_at=np.concatenate([places for places, _ in drafts]),
            drafts_check_of=index.repeat([len(places) for places, _ in drafts]),
            drafts_counts=np.concatenate([counts for _, counts in drafts]),
        )

    def take(self, flat: Tensor, vocab_size: int, send: Send) -> None:
        """Take them from logits [num_rows * vocab_size]."""
        places, source = self._places(vocab_size, send)
        drafts_at, factors = send(self.drafts_at), send(self.factors)
        # What stood there before anything was taken: a draft's own count stands in for the others.
        logits, drafts_logits = flat[places], flat[drafts_at]
        check_of = send(self.check_of)[source]
        flat[places] = _penalised(logits, factors[check_of], send(self.counts)[source])
        flat[drafts_at] = _penalised(
            drafts_logits, factors[send(self.drafts_check_of)], send(self.drafts_counts)
        )

    def _places(self, vocab_size: int, send: Send) -> tuple[Tensor, Tensor]:
        """Where each seen token stands in each row of its check, and which token that is."""
        check_of, checks = send(self.check_of), send(self.checks)
        num_rows = checks[check_of, 1]
        source = torch.arange(len(check_of), device=check_of.device)
        source = source.repeat_interleave(num_rows, output_size=self.num_places)
        starts = num_rows.cumsum(0) - num_rows
        row = torch.arange(self.num_places, device=check_of.device) - starts[source]
        row += checks[check_of[source], 0]
        return row * vocab_size + send(self.token_ids)[source], source


def _penalised(logits: Tensor, factors: Tensor, counts: Tensor) -> Tensor:
    """Logits [n] with factors [n, 3] of seen tokens and how often they were written [n]."""
    repetition, frequency, presence = factors.unbind(1)
    penalised = torch.where(logits > 0, logits / repetition, logits * repetition)
    penalised -= frequency * counts
    return penalised.sub_(presence.where(counts > 0, 0))


def _factors(check: DraftCheck) -> tuple[float, float, float]:
    assert check.processing is not None
    asked = check.processing.processors
    return asked.repetition_penalty, asked.frequency_penalty, asked.presence_penalty


def _seen(check: DraftCheck) -> SeenTokens:
    assert check.seen is not None
    return check.seen


def _drafted(
    check: DraftCheck, first_row: int, vocab_size: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Where the draft tokens stand in rows behind them, and how often each was written until there.

    A token that was drafted twice is named twice, with the same count.
    """
    drafts = np.array(check.draft_token_ids, dtype=np.int64)
    drafted, row = np.triu_indices(len(drafts))  # row i + 1 and later ones know draft i
    has_row = row + 1 < check.num_logit_rows
    drafted, row = drafted[has_row], row[has_row]
    num_until = (drafts[:, None] == drafts).cumsum(axis=1)
    counts = _seen(check).drafts_written[drafted] + num_until[drafted, row].astype(np.float32)
    return (row + 1 + first_row) * vocab_size + drafts[drafted], counts
