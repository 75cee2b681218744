"""What a run of many verifiers came to, as a table for people."""

from __future__ import annotations

from rich.table import Table

from verifier.sim.many_verifiers.outcome import ManyOutcome


def many_table(outcome: ManyOutcome) -> Table:
    """A row for each figure."""
    table = Table(title="many verifiers", title_justify="left", title_style="bold")
    table.add_column("figure", no_wrap=True)
    table.add_column("value", justify="right", no_wrap=True)
    for name, value in _rows(outcome):
        table.add_row(name, value)
    return table


def _rows(outcome: ManyOutcome) -> list[tuple[str, str]]:
    counts = outcome.window_counts
    num_tested = sum(length * count for length, count in enumerate(counts))
    kinds = list(outcome.utilisation_of_kinds.items())
    accepted = "–" if outcome.acceptance is None else f"{outcome.acceptance:.0%}"
    return [
        ("requests/s", f"{outcome.requests_per_second:,.1f}"),
        ("tokens/s in all", f"{outcome.tokens_per_second:,.0f}"),
        ("tokens/s of a device", f"{outcome.device_tokens_per_second:.2f}"),
        (
            "first token ms, mean, p50, p95, p99",
            _milliseconds(
                outcome.first_token_seconds,
                outcome.first_token_p50_seconds,
                outcome.first_token_p95_seconds,
                outcome.first_token_p99_seconds,
            ),
        ),
        (
            "ms a token, mean, p50, p95, p99",
            _milliseconds(
                outcome.token_seconds,
                outcome.token_p50_seconds,
                outcome.token_p95_seconds,
                outcome.token_p99_seconds,
            ),
        ),
        ("seconds of a request", f"{outcome.request_seconds:.2f}"),
        ("verifiers busy", f"{outcome.utilisation:.0%}"),
        *((f"  those of {name}", f"{part:.0%}") for name, part in kinds if len(kinds) > 1),
        ("accepted", accepted),
        ("tested tokens of a stream in a round", f"{num_tested / max(sum(counts), 1):.2f}"),
        ("rounds of streams", f"{outcome.num_stream_rounds:,}"),
    ]


def _milliseconds(*values: float) -> str:
    return ", ".join(f"{1e3 * value:,.0f}" for value in values)
