"""One draft token from logits, in every mode, as the target will judge it."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drafting.draw import MAX_COUPLED_ENTRIES, draw_token
from edge_agent.drafting.draw_spec import DrawSpec, certain_token, path_seed
from shared.errors import ModelError
from shared.protocol.draft_packing import make_extension, pack_draft
from shared.protocol.draft_path import DraftToken
from shared.protocol.messages import AcceptanceMode
from shared.speculation.noise import Domain
from shared.speculation.probabilities import dense_probabilities
from shared.speculation.quantised_row import quantise
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.scripted_model import ScriptedModel
from shared.speculation.verification import draw, draw_dense
from tests.support.models.sampling_rounds import (
    EDGE_TEMPERATURES,
    EDGE_TOP_K,
    EDGE_TOP_P,
    ROW_KINDS,
    edge_rows,
)
from verifier.streams.draft_arrival import unpack_draft

MODEL = ScriptedModel(200, seed=5)
SMALL_MODEL = ScriptedModel(MAX_COUPLED_ENTRIES, seed=5)  # no token of it is left out
WARM = SamplingParameters(temperature=0.8, top_p=0.95)

contexts = st.tuples(st.integers(0, 199), st.integers(0, 199))
seeds = st.integers(0, 2**63 - 1)


def spec(**changes: Any) -> DrawSpec:
    values: dict[str, Any] = {
        "mode": "coupled",
        "sampling": WARM,
        "seed": 7,
        "position": 3,
        "vocab_size": 200,
        "is_guess": False,
        "row_entries": 32,
        "confidence_stop": 0.0,
    }
    return DrawSpec(**(values | changes))


@pytest.mark.parametrize("sampling", [GREEDY, WARM, SamplingParameters(temperature=1.0)])
@pytest.mark.parametrize("confidence_stop", [0.0, 0.001])
@pytest.mark.parametrize(
    ("mode", "is_guess"), [("coupled", False), ("rejection", False), ("rejection", True)]
)
def test_ids_that_the_target_does_not_have_are_never_drafted(
    sampling: SamplingParameters, confidence_stop: float, mode: str, is_guess: bool
) -> None:
    logits = MODEL.logits([1, 2]).copy()
    logits[150:] += 50.0  # the draft model's padding is all that it would like to say
    for seed in range(50):
        drawn = draw_token(
            spec(
                mode=mode,
                sampling=sampling,
                seed=seed,
                vocab_size=150,
                is_guess=is_guess,
                confidence_stop=confidence_stop,
            ),
            logits,
        )
        assert drawn is not None
        assert drawn.token_id < 150
        assert drawn.row is None or (drawn.row.token_ids < 150).all()


@given(context=contexts)
def test_greedy_drafts_the_likeliest_token(context: tuple[int, int]) -> None:
    logits = MODEL.logits(context)
    drawn = draw_token(spec(sampling=GREEDY), logits)
    assert drawn is not None
    assert int(np.argmax(logits)) == drawn.token_id


@pytest.mark.parametrize("sampling", [GREEDY, WARM])
@pytest.mark.parametrize("mode", ["coupled", "rejection"])
def test_how_sure_a_draft_is_does_not_hang_on_what_is_drawn(
    mode: str, sampling: SamplingParameters
) -> None:
    drawn = [
        draw_token(spec(mode=mode, sampling=sampling, seed=seed), MODEL.logits((1, 2)))
        for seed in range(60)
    ]
    assert 1 == len({token.confidence for token in drawn if token is not None})
    assert 1 < len({token.token_id for token in drawn if token is not None}) or sampling is GREEDY


def test_a_surer_model_drafts_with_more_confidence() -> None:
    logits = MODEL.logits((1, 2))
    drawn = [draw_token(spec(sampling=GREEDY), np.float32(sharp) * logits) for sharp in (0.5, 1, 2)]
    confidences = [token.confidence for token in drawn if token is not None]
    assert sorted(set(confidences)) == confidences


@given(context=contexts, seed=seeds, position=st.integers(0, 1000))
def test_coupled_drafts_what_a_target_with_these_logits_says(
    context: tuple[int, int], seed: int, position: int
) -> None:
    logits = SMALL_MODEL.logits(context)
    said = draw_dense(dense_probabilities(logits, WARM), seed, position, Domain.COUPLED)
    drawn = draw_token(spec(seed=seed, position=position), logits)
    assert drawn is not None
    assert (said, None) == (drawn.token_id, drawn.row)


def test_coupled_looks_at_the_likeliest_tokens_only() -> None:
    flat = np.linspace(0.0, 1e-3, 200, dtype=np.float32)
    sampling = SamplingParameters()
    drawn = {draw_token(spec(sampling=sampling, seed=seed), flat) for seed in range(300)}
    ids = {token.token_id for token in drawn if token is not None}
    assert set(range(200 - MAX_COUPLED_ENTRIES, 200)) >= ids
    assert 30 < len(ids)


@given(context=contexts, seed=seeds, position=st.integers(0, 1000))
def test_rejection_draws_from_the_row_that_is_sent(
    context: tuple[int, int], seed: int, position: int
) -> None:
    logits = MODEL.logits(context)
    token = draw_token(spec(mode="rejection", seed=seed, position=position), logits)
    assert token is not None
    assert token.row is not None
    drawn = draw(token.row.token_ids, token.row.weights, seed, position, Domain.DRAFT)
    assert drawn == token.token_id


def test_a_row_is_the_request_cut_to_the_boards_entries() -> None:
    logits = MODEL.logits((1, 2))
    token = draw_token(spec(mode="rejection", row_entries=5, sampling=SamplingParameters()), logits)
    probs = dense_probabilities(logits, SamplingParameters(top_k=5))
    order = np.argsort(-probs)[:5]
    expected = quantise(order, probs[order], 5)
    assert token is not None
    assert token.row is not None
    assert expected.token_ids.tolist() == token.row.token_ids.tolist()
    assert expected.weights.tolist() == token.row.weights.tolist()


def test_a_request_for_fewer_tokens_than_the_row_holds_is_kept() -> None:
    sampling = SamplingParameters(top_k=2)
    token = draw_token(spec(mode="rejection", sampling=sampling), MODEL.logits((1, 2)))
    assert token is not None
    assert token.row is not None
    assert 2 == len(token.row.token_ids)


@given(context=contexts, seed=seeds)
def test_a_guess_of_the_bonus_token_uses_its_noise_and_has_no_row(
    context: tuple[int, int], seed: int
) -> None:
    logits = MODEL.logits(context)
    token = draw_token(spec(mode="rejection", is_guess=True, seed=seed), logits)
    drafted = draw_token(spec(mode="rejection", seed=seed), logits)
    assert token is not None
    assert drafted is not None
    assert drafted.row is not None
    row = drafted.row
    guess = draw(row.token_ids, row.weights, seed, 3, Domain.BONUS)
    assert DraftToken(guess) == token


@pytest.mark.parametrize(
    ("mode", "sampling"), [("coupled", GREEDY), ("coupled", WARM), ("rejection", WARM)]
)
def test_drafting_stops_where_the_model_is_not_sure_enough(
    mode: str, sampling: SamplingParameters
) -> None:
    # Two tokens of nearly 0.5 each.
    logits = np.array([0.0, 0.0, -8.0], dtype=np.float32)
    asked = [
        draw_token(spec(mode=mode, sampling=sampling, confidence_stop=stop), logits) is None
        for stop in (0.4, 0.6)
    ]
    assert [False, True] == asked


def test_the_stop_looks_at_the_distribution_and_never_at_the_draw() -> None:
    logits = MODEL.logits((1, 2))
    stopped = {
        draw_token(spec(mode="rejection", confidence_stop=0.3, seed=seed), logits) is None
        for seed in range(100)
    }
    assert 1 == len(stopped)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("sampling", [GREEDY, WARM])
def test_logits_that_are_no_numbers_are_an_error_of_the_model(
    sampling: SamplingParameters, bad: float
) -> None:
    logits = MODEL.logits((1, 2)).copy()
    logits[17] = bad
    with pytest.raises(ModelError, match="not finite"):
        draw_token(spec(sampling=sampling), logits)


@pytest.mark.parametrize("mode", ["coupled", "rejection"])
@pytest.mark.parametrize("kind", ROW_KINDS)
def test_every_legal_request_draws_a_possible_token_from_every_sound_row(
    mode: AcceptanceMode, kind: str
) -> None:
    random = np.random.default_rng(5)
    for temperature, top_p, top_k in product(EDGE_TEMPERATURES, EDGE_TOP_P, {*EDGE_TOP_K}):
        (logits,) = edge_rows(kind, (1, 70), random)
        sampling = SamplingParameters(temperature, top_k, top_p)
        token = draw_token(spec(mode=mode, sampling=sampling, vocab_size=70), logits)
        assert token is not None
        assert logits[token.token_id] > -np.inf
        if sampling.is_greedy or top_k == 1:
            assert np.argmax(logits) == token.token_id


def test_tokens_may_be_ruled_out() -> None:
    logits = np.full(200, -np.inf, dtype=np.float32)
    logits[17] = 1.0
    token = draw_token(spec(mode="rejection"), logits)
    assert token is not None
    assert 17 == token.token_id


@given(seed=seeds)
def test_every_path_has_noise_of_its_own(seed: int) -> None:
    path_seeds = {path_seed(seed, base) for base in range(100)}
    assert 101 == len({seed, *path_seeds})
    assert all(0 <= path_seed < 2**63 for path_seed in path_seeds)


@pytest.mark.parametrize(
    ("mode", "is_guess", "has_row"),
    [("coupled", False, False), ("rejection", False, True), ("rejection", True, False)],
)
def test_a_token_that_no_model_drew_comes_from_a_row_of_its_own(
    mode: str, is_guess: bool, has_row: bool
) -> None:
    token = certain_token(70_000, spec(mode=mode, is_guess=is_guess))
    assert (70_000, has_row) == (token.token_id, token.has_row)
    drafted = make_extension(0, 0, [token])
    (sent,) = unpack_draft(pack_draft(1, drafted, 0.0), 100_000).tokens
    row = None if sent.row is None else (sent.row.token_ids.tolist(), sent.row.prob_of(70_000))
    assert (([70_000], 1.0) if has_row else None) == row
