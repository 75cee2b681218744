"""A cost curve as text for a person: the grid, the line through it, and what drafts may cost.

This module must never measure anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from verifier.cost_curve.curve import CostCurve

NUM_STREAMS = (1, 8, 32, 64)


def curve_table(curve: CostCurve) -> str:
    """Milliseconds of rounds, a row for each number of tokens, a column for each context."""
    contexts = curve.context_tokens
    rows = [["tokens", *(f"{context:,}" for context in contexts)]]
    for count in curve.num_tokens:
        row = [curve.round_seconds(count, context) for context in contexts]
        rows.append([f"{count:,}", *(f"{1e3 * seconds:.2f}" for seconds in row)])
    lines = [curve.line(context) for context in contexts]
    rows.append(["c0 ms", *(f"{1e3 * fixed:.2f}" for fixed, _ in lines)])
    rows.append(["c1 µs", *(f"{1e6 * token:.1f}" for _, token in lines)])
    return (
        "milliseconds of a round, by its tokens and the context of all its streams together\n"
        "(c0 + c1 × tokens is the nearest line)\n\n" + _align(rows)
    )


def budget_table(
    curve: CostCurve, stream_context_tokens: int, slowdown_limit: float, max_round_tokens: int
) -> str:
    """Draft tokens that lengthen a round of so many streams by the limit at most.

    Contexts beyond the measured ones would show a guess.
    """
    rows = [["streams", *map(str, NUM_STREAMS)], ["C"]]
    for count in NUM_STREAMS:
        max_drafts = max(max_round_tokens - count, 0)
        context_tokens = min(count * stream_context_tokens, curve.context_tokens[-1])
        drafts = curve.drafts_within(count, context_tokens, slowdown_limit, max_drafts)
        rows[1].append(str(drafts))
    return (
        f"draft tokens C that lengthen a round by {slowdown_limit:.0%} at most\n"
        f"(streams at a context of {stream_context_tokens:,}, "
        f"{curve.context_tokens[-1]:,} together at most;\n"
        "where all of them draft, what they gain comes on top)\n\n" + _align(rows)
    )


def _align(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
