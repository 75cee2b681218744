"""What a board of a load test drafts."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from edge_agent.drafting.draw_spec import DrawSpec
from edge_agent.fleet.draft_source import echo_guess, scripted_guess
from shared.protocol.messages import AcceptanceMode
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.scripted_model import ScriptedModel


def spec(
    mode: AcceptanceMode, sampling: SamplingParameters = GREEDY, *, is_guess: bool = False
) -> DrawSpec:
    return DrawSpec(
        mode=mode,
        sampling=sampling,
        seed=1,
        position=0,
        vocab_size=64,
        is_guess=is_guess,
        row_entries=32,
        confidence_stop=0.0,
    )


def test_a_scripted_board_without_disagreement_says_what_the_model_says() -> None:
    model = ScriptedModel(64, seed=7)
    drawn = scripted_guess(model)([3, 4], spec("coupled"))
    assert drawn is not None
    assert int(np.argmax(model.logits([3, 4]))) == drawn.token_id


def test_an_echo_is_some_token_of_the_text() -> None:
    guess = echo_guess(Random(1))
    drawn = [guess([5, 9, 12], spec("coupled")) for _ in range(50)]
    assert {5, 9, 12} == {token.token_id for token in drawn if token is not None}


@pytest.mark.parametrize("is_guess", [False, True])
def test_an_echo_to_be_tested_is_certain_of_itself(is_guess: bool) -> None:
    sampling = SamplingParameters()
    drawn = echo_guess(Random(1))([5], spec("rejection", sampling, is_guess=is_guess))
    assert drawn is not None
    assert (5, not is_guess) == (drawn.token_id, drawn.is_certain)
