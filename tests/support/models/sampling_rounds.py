"""Rounds at the edges of what a request and a model may ask of sampling, and what must come out.

Draws of hypothesis' or numpy's numbers; the float64 reference says what each item must become.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from shared.protocol.messages import AcceptanceMode
from shared.speculation.logit_processors import NO_PROCESSORS, LogitProcessors
from shared.speculation.noise import Domain
from shared.speculation.probabilities import NotADistribution, dense_probabilities, probabilities
from shared.speculation.processed_logits import processed
from shared.speculation.quantised_row import quantise
from shared.speculation.sampling import LOWEST_TEMPERATURE, SamplingParameters
from shared.speculation.verification import draw, verify_coupled, verify_rejection
from tests.support.models.processed_rows import Written, processed_check, random_processors
from verifier.target.round import DraftCheck, ItemFailure, ItemOutcome

Logits = NDArray[np.float32]

NOTHING = Written()
BROKEN = ItemOutcome(0, None, failure=ItemFailure.NON_FINITE_LOGITS)

EDGE_TEMPERATURES = (
    *(0.0, 5e-324, 2.9e-39, 1e-37, math.nextafter(LOWEST_TEMPERATURE, 0)),
    *(LOWEST_TEMPERATURE, 1e-3, 0.8, 1.0, 100.0),
)
EDGE_TOP_P = (5e-324, 1e-40, 0.1, 0.5, 0.95, 0.99999, math.nextafter(1, 0), 1.0)
EDGE_TOP_K = (0, 0, 1, 2, 3, 40, 1 << 24)
ROW_KINDS = ("spread", "wide", "flat", "tied", "huge", "ruled_out", "nearly_flat")
POISONS = ("nan", "inf", "all_nan", "nothing")

# A nucleus ends in float32: where its mass is as close to top-p as this, it may end one token off.
TOP_P_ERROR = 4e-6


def edge_rows(kind: str, shape: tuple[int, int], random: np.random.Generator) -> Logits:
    """Logits that something can be drawn from."""
    rows = random.normal(size=shape)
    match kind:
        case "wide":
            rows *= 50
        case "flat":
            rows[:] = rows[0, 0]
        case "tied":
            rows = np.rint(rows)
        case "huge":
            rows = np.sign(rows) * float(np.finfo(np.float32).max)
        case "ruled_out":
            rows[random.random(shape) < 0.9] = -np.inf
            rows[:, int(random.integers(shape[1]))] = 0.0
        case "nearly_flat":
            rows *= 1e-6
    return rows.astype(np.float32)


def poison(rows: Logits, kind: str, random: np.random.Generator) -> None:
    """Make one row something that nothing can be drawn from."""
    row = rows[int(random.integers(len(rows)))]
    match kind:
        case "nan":
            row[int(random.integers(len(row)))] = np.nan
        case "inf":
            row[int(random.integers(len(row)))] = np.inf
        case "all_nan":
            row[:] = np.nan
        case "nothing":
            row[:] = -np.inf


@dataclass(frozen=True)
class EdgeItem:
    """One item of a round: how it samples and what its rows look like."""

    mode: AcceptanceMode
    sampling: SamplingParameters
    seed: int
    num_drafts: int
    row_kind: str
    processors: LogitProcessors = NO_PROCESSORS

    @classmethod
    def random(cls, random: np.random.Generator) -> EdgeItem:
        """Any legal item; its numbers lie at the edges half of the time."""
        temperature = float(random.choice(EDGE_TEMPERATURES))
        top_p = float(random.choice(EDGE_TOP_P))
        top_k = int(random.choice(EDGE_TOP_K))
        if random.random() < 0.5:
            temperature = min(float(10.0 ** random.uniform(-324, 2)), 100.0)
        if random.random() < 0.5:
            top_p = float(1 - random.random())
        if random.random() < 0.5:
            top_k = int(2 ** random.uniform(0, 24))
        return cls(
            "rejection" if random.random() < 0.5 else "coupled",
            SamplingParameters(temperature, top_k, top_p),
            int(random.integers(0, 2**63 - 1)),
            int(random.integers(0, 3)),
            str(random.choice(ROW_KINDS)),
            random_processors(random),
        )

    def written(self, vocab_size: int) -> Written:
        """What stands before it, which is always the same."""
        return Written.random(vocab_size, np.random.default_rng(self.seed))

    def rows(self, vocab_size: int, random: np.random.Generator) -> Logits:
        """A row for each draft token, and one."""
        return edge_rows(self.row_kind, (self.num_drafts + 1, vocab_size), random)

    def check(self, rows: Logits, random: np.random.Generator) -> DraftCheck:
        """The draft of a board whose model nearly has these rows."""
        check = drafted(rows, self.mode, self.sampling, self.seed, True, random)
        return processed_check(check, self.processors, self.written(rows.shape[1]))


def drafted(
    logits: Logits,
    mode: AcceptanceMode,
    sampling: SamplingParameters,
    seed: int,
    draws_bonus: bool,
    random: np.random.Generator,
) -> DraftCheck:
    """A board's draft from somewhat different logits: one token less than there are rows."""
    position = int(random.integers(0, 1 << 20))
    token_ids, rows = [], []
    for i, row in enumerate(logits[:-1]):
        noise = random.normal(scale=0.5, size=row.shape).astype(np.float32)
        survivors, probs = probabilities(row + noise, sampling)
        if mode == "rejection":
            rows.append(quantise(survivors, probs, 32))
            survivors, probs = rows[-1].token_ids.astype(np.intp), rows[-1].probs
        domain = Domain.DRAFT if mode == "rejection" else Domain.COUPLED
        token_ids.append(draw(survivors, probs, seed, position + i, domain))
    return DraftCheck(
        tuple(token_ids), tuple(rows), mode, sampling, seed, position, draws_bonus=draws_bonus
    )


def reference(logits: Logits, check: DraftCheck, written: Written = NOTHING) -> ItemOutcome:
    """What the float64 reference makes of an item."""
    try:
        probs = np.stack(
            [
                dense_probabilities(_processed(row, check, written, i), check.sampling)
                for i, row in enumerate(logits)
            ]
        )
    except NotADistribution:
        return BROKEN
    if check.mode == "coupled":
        made = verify_coupled(probs, check.draft_token_ids, check.seed, check.position)
    else:
        made = verify_rejection(
            probs,
            check.draft_token_ids,
            check.rows,
            check.seed,
            check.position,
            draws_bonus=check.draws_bonus,
        )
    return ItemOutcome(made.num_accepted, made.token_id, made.accept_probs)


def _processed(row: Logits, check: DraftCheck, written: Written, num_drafts: int) -> Logits:
    """The row behind the first drafts of a check."""
    if check.processing is None:
        return row
    return processed(
        row,
        check.processing.processors,
        check.sampling,
        prompt_ids=written.prompt_ids,
        output_ids=[*written.output_ids, *check.draft_token_ids[:num_drafts]],
        end_ids=check.processing.end_ids,
    )


def is_right(
    outcome: ItemOutcome, logits: Logits, check: DraftCheck, written: Written = NOTHING
) -> bool:
    """Whether an outcome is the reference's, but for the float32 at the end of a nucleus."""
    nudged_checks = _nudged(check)
    return any(_is_same(outcome, reference(logits, one, written)) for one in nudged_checks)


def needed_rows(logits: Sequence[Logits], checks: Sequence[DraftCheck]) -> Logits:
    """The rows that the checks need, one after the other."""
    pairs = zip(logits, checks, strict=True)
    return np.concatenate([rows[: check.num_logit_rows] for rows, check in pairs])


def _nudged(check: DraftCheck) -> list[DraftCheck]:
    top_p = check.sampling.top_p
    if top_p == 1:
        return [check]
    shifted = [top_p, top_p * (1 - TOP_P_ERROR), min(top_p * (1 + TOP_P_ERROR), 1.0)]
    return [
        msgspec.structs.replace(check, sampling=msgspec.structs.replace(check.sampling, top_p=p))
        for p in shifted
        if p > 0
    ]


def _is_same(outcome: ItemOutcome, expected: ItemOutcome) -> bool:
    return (
        outcome.failure is expected.failure
        and (outcome.num_accepted, outcome.token_id) == (expected.num_accepted, expected.token_id)
        and np.allclose(outcome.accept_probs, expected.accept_probs, rtol=0, atol=1e-5)
    )
