"""The figures that people read off a generation's timings; None where nothing was counted."""

from __future__ import annotations

from edge_agent.generation.generation import Timings


def decode_seconds(timings: Timings) -> float:
    """Seconds from the first output token to the end."""
    return max(timings.total_seconds - timings.seconds_to_first_token, 0.0)


def decode_tokens_per_second(timings: Timings) -> float | None:
    """Speed after the first token, whose time is the prompt's."""
    return _ratio(timings.output_tokens - 1, decode_seconds(timings))


def output_tokens_per_round(timings: Timings) -> float | None:
    """Goodput per round: output tokens for each verdict."""
    return _ratio(timings.output_tokens, timings.num_verdicts)


def acceptance(timings: Timings) -> float | None:
    """The acceptance rate: how often the next draft token survived, over positions reached."""
    return _ratio(timings.survived_tokens, timings.survived_tokens + timings.rejections)


def wire_bytes_per_token(timings: Timings) -> float | None:
    """Bytes between board and verifier for each output token, both directions."""
    return _ratio(timings.wire_bytes, timings.output_tokens)


def summarise(timings: Timings) -> str:
    """One line for people, such as `31.2 tok/s · 4.3 tok/round · accepted 71 % · …`."""
    figures = [
        _figure("{:.1f} tok/s", decode_tokens_per_second(timings)),
        _figure("{:.1f} tok/round", output_tokens_per_round(timings)),
        _figure("accepted {:.0%}", acceptance(timings)).replace("%", " %"),
        _figure("{:.1f} B/token", wire_bytes_per_token(timings)),
        _figure("first token {:.2f} s", timings.seconds_to_first_token),
    ]
    return " · ".join(figure for figure in figures if figure)


def _figure(template: str, value: float | None) -> str:
    return "" if value is None else template.format(value)


def _ratio(dividend: float, divisor: float) -> float | None:
    return dividend / divisor if dividend > 0 and divisor > 0 else None
