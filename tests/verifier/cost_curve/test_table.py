"""A curve as a person reads it."""

from __future__ import annotations

from verifier.cost_curve.curve import CostCurve
from verifier.cost_curve.table import budget_table, curve_table

CURVE = CostCurve.from_samples(
    [
        (tokens, context, 0.02 + 0.0005 * tokens + 1e-6 * context)
        for tokens in (1, 8, 64, 512)
        for context in (1_000, 8_000)
    ]
)


def test_rounds_stand_in_rows_of_tokens_and_columns_of_contexts() -> None:
    table = curve_table(CURVE).splitlines()
    assert [
        "tokens   1,000   8,000",
        "     1   21.50   28.50",
        "     8   25.00   32.00",
        "    64   53.00   60.00",
        "   512  277.00  284.00",
        " c0 ms   21.00   28.00",
        " c1 µs   500.0   500.0",
    ] == table[-7:]


def test_the_budget_is_what_the_limit_allows_for_each_number_of_streams() -> None:
    # 5 % of 21.5 ms (1 stream at 1,000) are 2 tokens; of 28 + 4 ms (8 streams), 3.
    table = budget_table(CURVE, 1_000, 0.05, 66).splitlines()
    assert "draft tokens C that lengthen a round by 5% at most" == table[0]
    assert ["streams  1  8  32  64", "      C  2  3   4   2"] == table[-2:]
