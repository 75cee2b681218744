"""Gives the sandbox jobs, and says what came of them.

This module must never render a template itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from shared.daemon.resources.bounded_process import BoundedProcess

PROGRAM = Path(__file__).with_name("sandbox.py")


class Rendered(msgspec.Struct, frozen=True):
    """A prompt, or why there is none."""

    text: str = ""
    reason: str | None = None


class SandboxProcess:
    """One process for all threads, one job at a time; started at the first job."""

    def __init__(self) -> None:
        self._process = BoundedProcess(PROGRAM)

    def render(self, template: str, renders: Sequence[Mapping[str, object]]) -> list[Rendered]:
        """The template with each of these sets of variables, which must be values of JSON."""
        line = json.dumps({"template": template, "renders": renders}).encode() + b"\n"
        answer = self._process.answer(line)
        if isinstance(answer, bytes):
            return msgspec.json.decode(answer, type=list[Rendered])
        return [Rendered(reason=answer) for _ in renders]
