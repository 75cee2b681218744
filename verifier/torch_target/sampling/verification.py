"""What the target makes of the drafts of a whole round: accepted, recovered, bonus and own tokens.

The same rules on the same random numbers as `shared.speculation.verification` and `sampling`,
which it is tested against, for rows of all modes in one batch.  No dense draft distribution ever
exists.  One item's input must never change another's outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from shared.speculation.noise import Domain
from verifier.target.round import NON_FINITE_LOGITS, DraftCheck, ItemOutcome
from verifier.torch_target.sampling.distributions import Draw, SampledRow, TargetDistributions
from verifier.torch_target.sampling.logit_rows import LogitRows


def verify_rows(logits: Tensor, draft_checks: Sequence[DraftCheck]) -> list[ItemOutcome]:
    """The outcomes of checks whose rows [num_rows, vocab_size] stand one after the other."""
    rows = LogitRows.of(logits)
    starts = accumulate((draft_check.num_logit_rows for draft_check in draft_checks), initial=0)
    checks = [_Check(*pair) for pair in zip(draft_checks, starts, strict=False)]
    is_finite = rows.row_max.isfinite().tolist()
    sound = [check for check in checks if all(is_finite[row] for row in check.rows)]
    sampled = [
        SampledRow(row, check.draft_check.sampling, check.draft_check.is_tested)
        for check in sound
        if not check.is_greedy
        for row in check.rows
    ]
    distributions = TargetDistributions(rows, sampled, vocab_size=logits.shape[1])
    tests = _test(distributions, [check for check in sound if check.draft_check.is_tested])
    draws = [
        draw for check in sound if not check.is_greedy for draw in _draws(check, tests.get(check))
    ]
    token_ids = _most_likely(rows, [check for check in sound if check.is_greedy])
    token_ids |= zip((draw.row_number for draw in draws), distributions.draw(draws), strict=True)
    outcomes = {check: _outcome(check, tests.get(check), token_ids) for check in sound}
    broken = ItemOutcome(0, None, failure=NON_FINITE_LOGITS)
    return [outcomes.get(check, broken) for check in checks]


@dataclass(frozen=True, slots=True, eq=False)
class _Check:
    draft_check: DraftCheck
    first_row: int

    @property
    def rows(self) -> range:
        return range(self.first_row, self.first_row + self.draft_check.num_logit_rows)

    @property
    def is_greedy(self) -> bool:
        return self.draft_check.sampling.is_greedy


@dataclass(frozen=True, slots=True)
class _Test:
    num_accepted: int
    accept_probs: tuple[float, ...]


def _most_likely(rows: LogitRows, checks: Sequence[_Check]) -> dict[int, int]:
    numbers = [row for check in checks for row in check.rows]
    token_ids = rows.argmax(torch.tensor(numbers, dtype=torch.int64, device=rows.logits.device))
    return dict(zip(numbers, token_ids.tolist(), strict=True))


def _test(distributions: TargetDistributions, checks: Sequence[_Check]) -> dict[_Check, _Test]:
    """Leviathan et al. 2023, Algorithm 1: accept token x if u < target(x) / draft(x)."""
    drafted = [
        (check, i) for check in checks for i in range(len(check.draft_check.draft_token_ids))
    ]
    target_probs = distributions.probs(
        [(check.first_row + i, check.draft_check.draft_token_ids[i]) for check, i in drafted]
    )
    uniforms = distributions.uniforms(
        [
            (check.draft_check.seed, check.draft_check.position + i, Domain.ACCEPT)
            for check, i in drafted
        ]
    )
    accept_probs: dict[_Check, list[float]] = {check: [] for check in checks}
    survives: dict[_Check, list[bool]] = {check: [] for check in checks}
    for (check, i), target_prob, uniform in zip(drafted, target_probs, uniforms, strict=True):
        draft_prob = check.draft_check.rows[i].prob_of(check.draft_check.draft_token_ids[i])
        # A token that its own row does not hold was not drawn from it.
        accept_prob = min(1.0, target_prob / draft_prob) if draft_prob else 0.0
        accept_probs[check].append(accept_prob)
        survives[check].append(uniform < accept_prob)
    return {
        check: _Test([*survives[check], False].index(False), tuple(accept_probs[check]))
        for check in checks
    }


def _draws(check: _Check, test: _Test | None) -> list[Draw]:
    """What must be drawn for a check: the token after the test, or the target's own everywhere."""
    draft_check = check.draft_check
    if test is None:
        return [
            Draw(row, draft_check.seed, draft_check.position + i, Domain.COUPLED)
            for i, row in enumerate(check.rows)
        ]
    i = test.num_accepted
    row, position = check.first_row + i, draft_check.position + i
    if i < len(draft_check.draft_token_ids):
        return [Draw(row, draft_check.seed, position, Domain.RECOVERED, draft_check.rows[i])]
    if draft_check.draws_bonus:
        return [Draw(row, draft_check.seed, position, Domain.BONUS)]
    return []


def _outcome(check: _Check, test: _Test | None, token_ids: Mapping[int, int]) -> ItemOutcome:
    if test is None:
        drafts = check.draft_check.draft_token_ids
        is_equal = [token_ids[row] == token for row, token in zip(check.rows, drafts, strict=False)]
        # A greedy target gives all its probability to one token.
        accept_probs = tuple(map(float, is_equal)) if check.draft_check.mode == "rejection" else ()
        test = _Test([*is_equal, False].index(False), accept_probs)
    row = check.first_row + test.num_accepted
    token_id = token_ids[row] if row in check.rows else None
    return ItemOutcome(test.num_accepted, token_id, test.accept_probs)
