"""Boards that stop where they are unsure, or are told to, do not bias sampled text.

The real draw, watch and rejection test, one stream without links and clocks: whether another token
is drafted hangs on what was known before it was drawn. A board that stops for what it *has* drawn
does bias the text, and these statistics notice it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.drafting.draw import draw_token
from edge_agent.drafting.draw_spec import DrawSpec, path_seed
from edge_agent.drafting.survival_watch import SurvivalWatch
from edge_agent.drafting.verdict import Committed
from shared.protocol.draft_path import DraftToken
from shared.speculation import verification
from shared.speculation.probabilities import dense_probabilities
from shared.speculation.sampling import SamplingParameters
from shared.speculation.scripted_model import ScriptedModel
from shared.speculation.verification import verify_rejection
from tests.support.statistics.next_token_statistics import TokenCounts
from tests.support.statistics.noise_table import NoiseTable

VOCAB_SIZE = 16
SAMPLING = SamplingParameters(temperature=1.0)
DRAFT_LENGTH = 6
TEXT_TOKENS = 400
NUM_TEXTS = 40
LEAST_SURVIVAL = 150  # in 255ths: most chunks end before their last token
SMALLEST_P = 1e-5


@pytest.fixture(autouse=True)
def fast_noise() -> Iterator[None]:
    noise = NoiseTable(VOCAB_SIZE)
    with (
        patch.object(verification, "gumbel", noise.gumbel),
        patch.object(verification, "uniform", noise.uniform),
    ):
        yield


@cache
def logits_of(context: int, disagreement: float) -> NDArray[np.float32]:
    model = ScriptedModel(VOCAB_SIZE, 11, order=1, sharpness=1.5, disagreement=disagreement)
    return model.logits([context])


@cache
def target_probs(context: int) -> NDArray[np.float64]:
    return dense_probabilities(logits_of(context, 0.0), SAMPLING)


def chunk(context: int, position: int, seed: int, watch: SurvivalWatch) -> list[DraftToken]:
    """What the board drafts behind a context."""
    drafted: list[DraftToken] = []
    while len(drafted) < DRAFT_LENGTH and not (drafted and watch.is_spent(drafted)):
        spec = DrawSpec(
            mode="rejection",
            sampling=SAMPLING,
            seed=path_seed(seed, position),
            position=position + len(drafted),
            vocab_size=VOCAB_SIZE,
            is_guess=False,
            row_entries=32,
            confidence_stop=0.0,
        )
        last = drafted[-1].token_id if drafted else context
        token = draw_token(spec, logits_of(last, 0.3))
        assert token is not None
        drafted.append(token)
    return drafted


def write(seed: int, watch: SurvivalWatch, *, discards: bool) -> tuple[list[int], list[int]]:
    """A text, and how long its chunks were; `discards`: unlikely draws are not sent."""
    text, lengths, context = [], [], 0
    while len(text) < TEXT_TOKENS:
        drafted = chunk(context, len(text), seed, watch)
        if discards:
            odd = [t.row is not None and t.row.prob_of(t.token_id) < 0.1 for t in drafted]
            drafted = drafted[: [*odd, True].index(True)]
        ids = [token.token_id for token in drafted]
        probs = np.stack([target_probs(before) for before in (context, *ids)])
        rows = [token.row for token in drafted if token.row is not None]
        decided = verify_rejection(probs, ids, rows, seed, len(text))
        assert decided.token_id is not None
        num_tested = min(decided.num_accepted + 1, len(ids))
        num_dead = len(ids) - decided.num_accepted
        watch.learn(
            drafted, Committed((), decided.num_accepted, num_tested, num_dead, decided.num_accepted)
        )
        text += [*ids[: decided.num_accepted], decided.token_id]
        lengths.append(len(ids))
        context = text[-1]
    return text, lengths


def written(*, discards: bool) -> tuple[TokenCounts, list[int]]:
    counts, all_lengths = TokenCounts(VOCAB_SIZE), []
    watch = SurvivalWatch()
    watch.begin("rejection", is_greedy=False)
    watch.learn((), Committed((), 0, 0, 0, 0), LEAST_SURVIVAL)
    for seed in range(NUM_TEXTS):
        text, lengths = write(seed, watch, discards=discards)
        counts.add(0, text)
        all_lengths += lengths
    return counts, all_lengths


def p_values(counts: TokenCounts) -> tuple[float, float]:
    return counts.p_values(np.stack([target_probs(context) for context in range(VOCAB_SIZE)]))


def test_text_follows_the_target_where_boards_stop_at_doubtful_tokens() -> None:
    counts, lengths = written(discards=False)
    assert min(lengths) < DRAFT_LENGTH, "no chunk was cut short"
    assert len(set(lengths)) > 2, "chunks do not hang on how sure the board was"
    assert min(p_values(counts)) > SMALLEST_P


def test_a_board_that_stops_for_what_it_drew_is_noticed() -> None:
    counts, _ = written(discards=True)
    assert min(p_values(counts)) < 1e-2 * SMALLEST_P
