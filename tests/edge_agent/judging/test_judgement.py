"""Drafts are judged by all texts, domain by domain."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edge_agent.draft_model.scripted_drafter import ScriptedDrafter
from edge_agent.judging.judgement import chosen_texts, judge
from edge_agent.judging.judgement_lines import judgement_lines
from edge_agent.judging.overlap import Rule
from shared.errors import ModelError
from shared.protocol.held_out_texts import HeldOutText, HeldOutTexts, TargetRow, text_of

VOCAB_SIZE = 32


def counting(tokens: tuple[int, ...]) -> np.ndarray:
    """Logits of a draft that is sure of the next number."""
    logits = np.zeros(VOCAB_SIZE, np.float32)
    logits[(tokens[-1] + 1) % VOCAB_SIZE] = 30.0
    return logits


def drafter() -> ScriptedDrafter:
    return ScriptedDrafter(counting, tuple(bytes([i]) for i in range(VOCAB_SIZE)), num_slots=1)


def texts() -> list[HeldOutText]:
    row = TargetRow(np.array([3, 9], np.uint32), np.array([0.75, 0.25], np.float32))
    return [
        text_of("up", "greedy", [1, 2], [3, 4, 5, 6, 7, 8, 9, 10], []),
        text_of("down", "greedy", [9], [8, 7, 6, 5, 4, 3, 2, 1], []),
        text_of("up", "0.8", [2], [3], [row]),
        text_of("up", "1", [2], [3], [row]),
    ]


def ticks() -> float:
    ticks.now += 0.5  # type: ignore[attr-defined]
    return float(ticks.now)  # type: ignore[attr-defined]


ticks.now = 0.0  # type: ignore[attr-defined]


def test_acceptance_is_told_by_domain_and_rule() -> None:
    found = judge(drafter(), texts(), VOCAB_SIZE, now=ticks)
    greedy = found.accepted[Rule.GREEDY]
    assert (1.0, 0.0) == (greedy["up"].rate, greedy["down"].rate)
    assert (5.0, 9.0) == greedy["up"].round_tokens
    assert 0.5 == found.mean(Rule.GREEDY).rate
    assert found.accepted[Rule.COOL_REJECTION]["up"].rate == pytest.approx(0.75)
    assert found.accepted[Rule.WHOLE]["up"].rate == pytest.approx(0.75)
    assert 2.0 == found.tokens_per_second
    assert 1.0 == found.drawn_per_second


def test_a_draft_with_fewer_tokens_is_refused() -> None:
    with pytest.raises(ModelError, match="has 32 tokens, and the target 33"):
        judge(drafter(), texts(), VOCAB_SIZE + 1)


def test_the_first_texts_of_each_kind_are_chosen() -> None:
    all_texts = HeldOutTexts("target", VOCAB_SIZE, tuple(texts() * 3))
    chosen = chosen_texts(all_texts, 2)
    assert 8 == len(chosen)


def test_lines_name_drafts_and_domains() -> None:
    found = judge(drafter(), texts(), VOCAB_SIZE, now=ticks)
    lines = list(judgement_lines({"one": found, "other": found}, {"one": 12_000_000, "other": 1}))
    assert re.fullmatch(r"one +12\.0 +2 +1\.00 +1 +\d+", lines[1])
    assert any(line.startswith("accepted, greedy;") for line in lines)
    assert any(re.fullmatch(r"other +0\.500 +.*0\.000 +1\.000", line) for line in lines)
