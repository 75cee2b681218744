"""The prompts of tests and benchmarks, and the models that they run on."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

TARGET = "smollm2-135m-instruct"
DRAFTS = ("smollm2-135m-instruct", "smollm2-135m-instruct-q4_0", "smollm2-135m-instruct-q2_k")


class Prompt(NamedTuple):
    """One prompt of Spec-Bench (ids specbench/…) or HumanEval (humaneval/…)."""

    id: str
    domain: str
    text: str


@cache
def prompts() -> tuple[Prompt, ...]:
    """Sixteen prompts of seven domains, all below 1,000 characters."""
    lines = (Path(__file__).parent / "prompts.jsonl").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    return tuple(Prompt(entry["id"], entry["domain"], entry["prompt"]) for entry in entries)
