"""What is told to be accepted is what verification accepts."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.judging.overlap import acceptances, rounds_of
from shared.protocol.held_out_texts import JudgedMode, TargetRow, text_of
from shared.speculation.goodput import expected_tokens
from shared.speculation.noise import Domain
from shared.speculation.probabilities import probabilities
from shared.speculation.sampling import SamplingParameters
from shared.speculation.verification import draw

COOL = SamplingParameters(temperature=0.8, top_p=0.95)
NUM_DRAWS = 4000


def logits(seed: int, size: int = 40) -> NDArray[np.float32]:
    return (2 * np.random.default_rng(seed).standard_normal(size)).astype(np.float32)


def judged(mode: JudgedMode, row: TargetRow, draft: NDArray[np.float32]) -> tuple[float, ...]:
    return acceptances(text_of("some", mode, [1], [7], [row]), 0, draft)


def target_row(target: NDArray[np.float32], sampling: SamplingParameters) -> TargetRow:
    token_ids, probs = probabilities(target, sampling)
    return TargetRow(token_ids.astype(np.uint32), probs.astype(np.float32))


def test_greedy_accepts_the_texts_own_token() -> None:
    draft = np.zeros(10, np.float32)
    draft[7] = 1.0
    text = text_of("some", "greedy", [1], [7, 3], [])
    assert (1.0,) == acceptances(text, 0, draft)
    assert (0.0,) == acceptances(text, 1, draft)


def test_a_draft_like_the_target_is_accepted_nearly_always() -> None:
    target = logits(1)
    rejection, coupled = judged("0.8", target_row(target, COOL), target)
    whole, plain = judged("1", target_row(target, SamplingParameters()), target)
    assert min(rejection, coupled) > 0.98
    assert whole == pytest.approx(1.0, abs=2e-3)
    assert plain > 0.95  # the row's tail is cut


def test_coupled_is_how_often_both_ends_draw_the_same_token() -> None:
    target, draft = logits(1), logits(2) + logits(1)
    _, coupled = judged("0.8", target_row(target, COOL), draft)
    same = [
        draw(*probabilities(target, COOL), seed, 3, Domain.COUPLED)
        == draw(*probabilities(draft, COOL), seed, 3, Domain.COUPLED)
        for seed in range(NUM_DRAWS)
    ]
    spread = np.sqrt(coupled * (1 - coupled) / NUM_DRAWS)
    assert abs(np.mean(same) - coupled) < 4 * spread


def test_what_a_row_left_out_is_never_accepted() -> None:
    target = logits(1)
    row = target_row(target, SamplingParameters())
    cut = TargetRow(row.token_ids[:5], row.probs[:5])
    whole, _ = judged("1", cut, target)
    assert whole == pytest.approx(float(row.probs[:5].sum()), abs=2e-3)


def test_rounds_begin_behind_the_token_that_ended_the_last_one() -> None:
    accepted = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    # From 0: accepted, then rejected; from 2: both accepted, and one of the target; from 5 again.
    assert (3.0, 8.0) == rounds_of(accepted, 2)
    assert (0.0, 0.0) == rounds_of(accepted, 10)


def test_equal_positions_give_what_the_scheduler_expects() -> None:
    num_rounds, num_tokens = rounds_of(np.full(200, 0.7), 4)
    assert num_tokens / num_rounds == pytest.approx(expected_tokens(0.7, 4))


def test_runs_make_rounds_shorter_than_the_mean_over_all_positions() -> None:
    accepted = np.tile([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0], 60)
    num_rounds, num_tokens = rounds_of(accepted, 4)
    everywhere = [1 + accepted[i : i + 4].cumprod().sum() for i in range(410)]
    assert num_tokens / num_rounds < np.mean(everywhere)
