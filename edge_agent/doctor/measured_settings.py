"""The settings that an examination has measured, as a file for the board. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import msgspec

from edge_agent.doctor.speed_findings import best_threads, by_threads, faster_model
from shared.config.words import shown


class Measured(msgspec.Struct, frozen=True):
    """Tokens per second by threads, and by the models of one family."""

    by_threads: Mapping[int, float]
    by_model: Mapping[str, float]
    model: str  # the configured one


def measured_settings(measured: Measured) -> str:
    """What is best, as TOML; another model is only proposed, for nothing tells its acceptance."""
    lines = [
        "# Written by `goodspeed-agent doctor --write`, which measures again and replaces it.",
        "",
        "[draft]",
        f"# tokens/s by threads: {by_threads(measured.by_threads)}",
        f"threads = {best_threads(measured.by_threads)}",
    ]
    faster = faster_model(measured.by_model, measured.model)
    if faster is not None:
        gain = measured.by_model[faster] / measured.by_model[measured.model]
        lines += [
            f"# {gain:.2f} times as fast as {measured.model}; better if as many of its drafts "
            "are accepted:",
            f"# model = {shown(faster)}",
        ]
    return "\n".join(lines) + "\n"


def difference(before: str, after: str, name: str) -> str:
    """What changes in a file, line by line as diff tells it; empty: nothing."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True),
        after.splitlines(keepends=True),
        f"{name} (before)" if before else "nothing",
        name,
    )
    return "".join(lines)
