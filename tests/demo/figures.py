"""What the demo's figures are: pure sums over the boards' timings and the verifier's metrics.

This module must never measure anything itself, and holds no number of any machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from edge_agent.generation.generation import Timings
from shared.speculation.fairness import jain_index, log_utility


class Scrape(msgspec.Struct, frozen=True, kw_only=True):
    """The verifier's metrics at one moment; counts since its start, by board where they are."""

    at_seconds: float
    output_tokens: Mapping[str, float]
    drafts: Mapping[str, float]  # drafts that were tested
    drafted_tokens: Mapping[str, float]  # draft tokens that were tested
    draft_lengths: Mapping[str, float]  # what the scheduler asks of each board now
    acceptance_estimates: Mapping[str, float]
    num_rounds: float
    round_seconds: float
    round_tokens: float


class BoardFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One board in one pass; None where nothing was drafted."""

    acceptance: float | None
    draft_length: float | None
    tokens_per_round: float
    tokens_per_second: float
    wire_bytes_per_token: float
    first_token_seconds: float


class PassFigures(msgspec.Struct, frozen=True, kw_only=True):
    """All boards together, while all of them were chatting."""

    tokens_per_second: float
    jain_index: float  # of the boards' tokens per second
    log_goodput: float  # Σ ln(tokens per second) over the boards
    seconds_per_round: float
    tokens_per_round: float  # that the target computed: drafts, one of each stream, prompts


def read_scrape(page: str, now: float) -> Scrape:
    """Read a page of /metrics that was fetched at `now`; a board not named in it has 0."""
    samples = [
        sample for family in text_string_to_metric_families(page) for sample in family.samples
    ]

    def by_board(name: str) -> dict[str, float]:
        return {s.labels["device"]: s.value for s in samples if s.name == f"goodspeed_{name}"}

    def total(name: str, **labels: str) -> float:
        return sum(s.value for s in samples if s.name == f"goodspeed_{name}" and s.labels == labels)

    return Scrape(
        at_seconds=now,
        output_tokens=by_board("goodput_tokens_total"),
        drafts=by_board("spec_decode_num_drafts_total"),
        drafted_tokens=by_board("spec_decode_num_draft_tokens_total"),
        draft_lengths=by_board("draft_length"),
        acceptance_estimates=by_board("acceptance_estimate"),
        num_rounds=total("round_seconds_count", phase="total"),
        round_seconds=total("round_seconds_sum", phase="total"),
        round_tokens=total("batch_tokens_sum"),
    )


def board_figures(
    timings: Sequence[Timings], board: str, before: Scrape, after: Scrape
) -> BoardFigures:
    """One board's answers, with the drafts that the verifier tested between the two scrapes."""
    num_survived = sum(t.survived_tokens for t in timings)
    num_reached = num_survived + sum(t.rejections for t in timings)
    num_drafts = _gain(before.drafts, after.drafts, board)
    num_drafted = _gain(before.drafted_tokens, after.drafted_tokens, board)
    num_tokens = sum(t.output_tokens for t in timings)
    return BoardFigures(
        acceptance=num_survived / num_reached if num_reached else None,
        draft_length=num_drafted / num_drafts if num_drafts else None,
        tokens_per_round=_ratio(num_tokens, sum(t.num_verdicts for t in timings)),
        tokens_per_second=_ratio(num_tokens, sum(t.total_seconds for t in timings)),
        wire_bytes_per_token=_ratio(sum(t.wire_bytes for t in timings), num_tokens),
        first_token_seconds=median(t.seconds_to_first_token for t in timings),
    )


def pass_figures(boards: Sequence[str], before: Scrape, after: Scrape) -> PassFigures:
    """All boards between two scrapes."""
    speeds = [speed(before, after, board) for board in boards]
    num_rounds = after.num_rounds - before.num_rounds
    return PassFigures(
        tokens_per_second=sum(speeds),
        jain_index=jain_index(speeds),
        log_goodput=log_utility(speeds),
        seconds_per_round=_ratio(after.round_seconds - before.round_seconds, num_rounds),
        tokens_per_round=_ratio(after.round_tokens - before.round_tokens, num_rounds),
    )


def speed(before: Scrape, after: Scrape, board: str) -> float:
    """A board's output tokens per second between two scrapes; 0 for scrapes of one moment."""
    num_tokens = _gain(before.output_tokens, after.output_tokens, board)
    return _ratio(num_tokens, after.at_seconds - before.at_seconds)


def num_same(texts: Sequence[str], others: Sequence[str]) -> int:
    """How many answers are the same, letter for letter."""
    return sum(text == other for text, other in zip(texts, others, strict=True))


def _gain(before: Mapping[str, float], after: Mapping[str, float], board: str) -> float:
    return after.get(board, 0.0) - before.get(board, 0.0)


def _ratio(dividend: float, divisor: float) -> float:
    return dividend / divisor if divisor > 0 else 0.0
