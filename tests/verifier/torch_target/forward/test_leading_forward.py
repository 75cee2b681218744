"""Rank 0 gives a round away before it does its part, and what fails then ends the device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor

from shared.errors import LinkLost
from verifier.target.round import DraftCheck, Round, RoundItem
from verifier.target.target import DeviceLost
from verifier.torch_target.forward.device_forward import Sampled
from verifier.torch_target.forward.leading_forward import LeadingForward

ROUND = Round((RoundItem(0, (1, 2), 0, (0,), None),))


class OneRank:
    """Writes down the order of things; fails where it is told to."""

    keeps_its_thread = True
    cached_layers = frozenset((0,))

    def __init__(self, error: Exception | None = None) -> None:
        self.done: list[str] = []
        self._error = error

    def on_device(self) -> AbstractContextManager[object]:
        return nullcontext()

    def logits(self, round_: Round) -> Tensor:
        self.done.append(f"read {round_.num_tokens}")
        if self._error is not None:
            raise self._error
        return torch.zeros(1, 3)

    def sample(self, logits: Tensor, draft_checks: Sequence[DraftCheck]) -> Sampled:
        raise ValueError("one item's own fault")


def test_others_get_the_round_first() -> None:
    own = OneRank()
    leading = LeadingForward(own, lambda round_: own.done.append(f"told {round_.num_tokens}"))
    assert (1, 3) == leading.logits(ROUND).shape
    assert ["told 2", "read 2"] == own.done
    assert (own.cached_layers, True) == (leading.cached_layers, leading.keeps_its_thread)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("a peer left")])
def test_a_pass_that_fails_here_leaves_the_others_waiting_so_no_round_can_follow(
    error: Exception,
) -> None:
    with pytest.raises(DeviceLost, match=str(error)):
        LeadingForward(OneRank(error), lambda round_: None).logits(ROUND)


def test_a_rank_that_cannot_be_told_ends_it_too() -> None:
    def gone(round_: Round) -> None:
        raise LinkLost("rank 1 is gone")

    own = OneRank()
    with pytest.raises(DeviceLost, match="rank 1 is gone"):
        LeadingForward(own, gone).logits(ROUND)
    assert [] == own.done


def test_what_fails_in_sampling_is_no_loss() -> None:
    with pytest.raises(ValueError, match="own fault"):
        LeadingForward(OneRank(), lambda round_: None).sample(torch.zeros(0, 3), ())
