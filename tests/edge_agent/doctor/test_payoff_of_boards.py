"""The prediction against whole boards: real streams and planner, scripted models, virtual time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edge_agent.doctor.payoff import SMALLEST_GAIN, Measures, predicted_gain
from shared.speculation.sampling import GREEDY
from shared.speculation.scripted_model import ScriptedModel
from tests.support.network.slow_link import ORDER, VOCAB_SIZE, Played, World, play
from verifier.rounds.settings import RoundsSection

NUM_BOARDS = 20


def worlds() -> Iterator[dict[str, float | int]]:
    """Boards from a slow one far away to a fast one beside its verifier."""
    draw = random.Random(1)
    for seed in range(NUM_BOARDS):
        yield {
            "disagreement": draw.choice((0.02, 0.1, 0.3, 0.6)),
            "round_trip_seconds": draw.choice((0.001, 0.01, 0.03, 0.1, 0.3)),
            "round_seconds": draw.choice((0.01, 0.03, 0.06, 0.15)),
            "draft_token_seconds": draw.choice((0.003, 0.01, 0.03, 0.1)),
            "num_tokens": 200,
            "seed": seed,
        }


def acceptance_rate(played: Played, disagreement: float) -> float:
    """How often the draft model's own choice is the token that came."""
    model = ScriptedModel(VOCAB_SIZE, seed=7, order=ORDER, disagreement=disagreement)
    ids = played.token_ids
    right = [
        int(np.argmax(model.logits(ids[place - ORDER : place]))) == ids[place]
        for place in range(ORDER, len(ids))
    ]
    return min(float(np.mean(right)), 0.99)


@pytest.mark.slow
def test_it_is_right_for_19_of_20_boards() -> None:
    wrong, num_paying = [], 0
    for settings in worlds():
        usual: Any = {"sampling": GREEDY, "policy": RoundsSection().policy, **settings}
        drafting, alone = play(World(**usual)), play(World(arm="alone", **usual))
        measures = Measures(
            acceptance_rate=acceptance_rate(drafting, float(settings["disagreement"])),
            draft_token_seconds=float(settings["draft_token_seconds"]),
            round_trip_seconds=float(settings["round_trip_seconds"]),
            round_seconds=1 / alone.tokens_per_second,
        )
        gain = drafting.tokens_per_second / alone.tokens_per_second
        pays = gain >= SMALLEST_GAIN
        num_paying += pays
        if pays is not (predicted_gain(measures) >= SMALLEST_GAIN):
            wrong.append((settings, gain, predicted_gain(measures)))
    assert NUM_BOARDS // 4 <= num_paying <= NUM_BOARDS - NUM_BOARDS // 4, "some pay, some do not"
    assert len(wrong) <= 1, wrong
