"""Utility weights are the derivative of what rounds give."""

from __future__ import annotations

import pytest
import torch

from shared.speculation.goodput import expected_tokens
from verifier.finetune.training.utility import SPAN, expected_round_tokens, utility_weights


@pytest.mark.parametrize("lengths", [(30,), (9, 1, 14, 2), (1, 1, 1)], ids=str)
def test_weights_are_the_derivative_of_the_sum_of_all_rounds(lengths: tuple[int, ...]) -> None:
    texts = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    acceptance = torch.rand(len(texts), generator=torch.Generator().manual_seed(1)).double()
    exact = acceptance.clone().requires_grad_()
    expected_round_tokens(exact, texts).sum().backward()
    torch.testing.assert_close(utility_weights(acceptance, texts), exact.grad)


def test_a_round_of_equal_positions_gives_what_the_scheduler_expects() -> None:
    acceptance = torch.full((40,), 0.7)
    found = expected_round_tokens(acceptance, torch.zeros(40, dtype=torch.int64))
    assert found[0].item() == pytest.approx(expected_tokens(0.7, SPAN))
    assert found[-1].item() == pytest.approx(expected_tokens(0.7, 1))


def test_a_token_that_ends_long_rounds_counts_most() -> None:
    acceptance = torch.tensor([0.9, 0.9, 0.0, 0.9, 0.9, 0.9])
    weights = utility_weights(acceptance, torch.zeros(6, dtype=torch.int64))
    assert 2 == weights.argmax()
