"""What the target makes of the drafts of a whole round: accepted, recovered, bonus and own tokens.

The same rules on the same random numbers as `shared.speculation.verification` and `sampling`,
which it is tested against, for rows of all modes in one batch. No dense draft distribution ever
exists. One item's input must never change another's outcome.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from shared.speculation.noise import Domain
from verifier.target.round import DraftCheck, ItemFailure, ItemOutcome
from verifier.torch_target.sampling.distributions import Draw, SampledRow, TargetDistributions
from verifier.torch_target.sampling.logit_rows import LogitRows
from verifier.torch_target.sampling.row_processing import process_rows


def verify_rows(logits: Tensor, checks: Sequence[DraftCheck]) -> list[ItemOutcome]:
    """The outcomes of checks whose rows [num_rows, vocab_size] stand one after the other.

    The logits are spent afterwards.
    """
    return verify_and_time_rows(logits, checks)[0]


def verify_and_time_rows(
    logits: Tensor, checks: Sequence[DraftCheck]
) -> tuple[list[ItemOutcome], tuple[float, ...]]:
    """`verify_rows`, and the seconds that a row of each check took beyond what every row takes."""
    started_at = time.perf_counter()
    logits = process_rows(logits, checks)
    processing_seconds = time.perf_counter() - started_at
    rows = LogitRows.of(logits)
    starts = accumulate((check.num_logit_rows for check in checks), initial=0)
    spans = [_RowSpan(*pair) for pair in zip(checks, starts, strict=False)]
    is_finite = rows.row_max.isfinite().tolist()
    sound = [span for span in spans if all(is_finite[row] for row in span.rows)]
    sampled = [
        SampledRow(row, span.check.sampling, span.check.is_tested)
        for span in sound
        if not span.is_greedy
        for row in span.rows
    ]
    distributions = TargetDistributions(rows, sampled, vocab_size=logits.shape[1])
    tests = _test(distributions, [span for span in sound if span.check.is_tested])
    draws = [draw for span in sound if not span.is_greedy for draw in _draws(span, tests.get(span))]
    token_ids = _most_likely(rows, [span for span in sound if span.is_greedy])
    token_ids |= zip((draw.row_number for draw in draws), distributions.draw(draws), strict=True)
    outcomes = {span: _outcome(span, tests.get(span), token_ids) for span in sound}
    broken = ItemOutcome(0, None, failure=ItemFailure.NON_FINITE_LOGITS)
    num_processed = sum(check.num_logit_rows for check in checks if check.processing is not None)
    row_seconds = tuple(
        distributions.seconds_of(span.rows)
        + (processing_seconds / num_processed if span.check.processing is not None else 0.0)
        for span in spans
    )
    return [outcomes.get(span, broken) for span in spans], row_seconds


@dataclass(frozen=True, slots=True, eq=False)
class _RowSpan:
    """The rows of logits that belong to one check."""

    check: DraftCheck
    first_row: int

    @property
    def rows(self) -> range:
        return range(self.first_row, self.first_row + self.check.num_logit_rows)

    @property
    def is_greedy(self) -> bool:
        return self.check.sampling.is_greedy


@dataclass(frozen=True, slots=True)
class _Test:
    num_accepted: int
    accept_probs: tuple[float, ...]


def _most_likely(rows: LogitRows, spans: Sequence[_RowSpan]) -> dict[int, int]:
    numbers = [row for span in spans for row in span.rows]
    token_ids = rows.argmax(torch.tensor(numbers, dtype=torch.int64, device=rows.logits.device))
    return dict(zip(numbers, token_ids.tolist(), strict=True))


def _test(distributions: TargetDistributions, spans: Sequence[_RowSpan]) -> dict[_RowSpan, _Test]:
    """Leviathan et al. 2023, Algorithm 1: accept token x if u < target(x) / draft(x)."""
    drafted = [(span, i) for span in spans for i in range(len(span.check.draft_token_ids))]
    target_probs = distributions.probs(
        [(span.first_row + i, span.check.draft_token_ids[i]) for span, i in drafted]
    )
    uniforms = distributions.uniforms(
        [(span.check.seed, span.check.position + i, Domain.ACCEPT) for span, i in drafted]
    )
    accept_probs: dict[_RowSpan, list[float]] = {span: [] for span in spans}
    survives: dict[_RowSpan, list[bool]] = {span: [] for span in spans}
    for (span, i), target_prob, uniform in zip(drafted, target_probs, uniforms, strict=True):
        draft_prob = span.check.rows[i].prob_of(span.check.draft_token_ids[i])
        # A token that its own row does not hold was not drawn from it.
        accept_prob = min(1.0, target_prob / draft_prob) if draft_prob else 0.0
        accept_probs[span].append(accept_prob)
        survives[span].append(uniform < accept_prob)
    return {
        span: _Test([*survives[span], False].index(False), tuple(accept_probs[span]))
        for span in spans
    }


def _draws(span: _RowSpan, test: _Test | None) -> list[Draw]:
    """What must be drawn for a check: the token after the test, or the target's own everywhere."""
    check = span.check
    if test is None:
        return [
            Draw(row, check.seed, check.position + i, Domain.COUPLED)
            for i, row in enumerate(span.rows)
        ]
    i = test.num_accepted
    row, position = span.first_row + i, check.position + i
    if i < len(check.draft_token_ids):
        return [Draw(row, check.seed, position, Domain.RECOVERED, check.rows[i])]
    if check.draws_bonus:
        return [Draw(row, check.seed, position, Domain.BONUS)]
    return []


def _outcome(span: _RowSpan, test: _Test | None, token_ids: Mapping[int, int]) -> ItemOutcome:
    if test is None:
        drafts = span.check.draft_token_ids
        is_equal = [token_ids[row] == token for row, token in zip(span.rows, drafts, strict=False)]
        # A greedy target gives all its probability to one token.
        accept_probs = tuple(map(float, is_equal)) if span.check.mode == "rejection" else ()
        test = _Test([*is_equal, False].index(False), accept_probs)
    row = span.first_row + test.num_accepted
    token_id = token_ids[row] if row in span.rows else None
    return ItemOutcome(test.num_accepted, token_id, test.accept_probs)
