"""The cost curve interpolates, never falls as tokens grow, follows rounds and ignores spikes."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ModelError
from verifier.cost_curve.curve import MAX_GRID_LINES, CostCurve, CostSample, CurveSubject

seconds = st.floats(1e-4, 2.0)


def linear_seconds(num_tokens: int, context_tokens: int) -> float:
    return 0.02 + 0.0005 * num_tokens + 1e-6 * context_tokens


def linear_curve() -> CostCurve:
    return CostCurve.from_samples(
        [
            (num_tokens, context, linear_seconds(num_tokens, context))
            for num_tokens in (1, 8, 64)
            for context in (0, 1_000, 8_000)
        ]
    )


@st.composite
def grids(draw: st.DrawFn) -> list[CostSample]:
    tokens = draw(st.lists(st.integers(0, 500), min_size=2, max_size=5, unique=True))
    contexts = draw(st.lists(st.integers(0, 9_000), min_size=1, max_size=4, unique=True))
    return [(count, context, draw(seconds)) for count in tokens for context in contexts]


@pytest.mark.parametrize(
    ("num_tokens", "context_tokens"),
    [(1, 0), (8, 1_000), (5, 300), (64, 8_000), (200, 500), (30, 20_000), (500, 50_000)],
)
def test_a_linear_cost_is_met_inside_and_above_the_grid(
    num_tokens: int, context_tokens: int
) -> None:
    expected = linear_seconds(num_tokens, context_tokens)
    seconds = linear_curve().round_seconds(num_tokens, context_tokens)
    assert expected == pytest.approx(seconds)
    longer = linear_curve().round_seconds(num_tokens + 1, context_tokens)
    assert 0.0005 == pytest.approx(longer - seconds)


def test_repeated_samples_give_their_median() -> None:
    curve = CostCurve.from_samples([(1, 0, 0.01), (1, 0, 9.0), (1, 0, 0.02), (2, 0, 0.03)])
    assert 0.02 == curve.round_seconds(1, 0)


def test_falling_measurements_are_pooled_to_the_nearest_rising_ones() -> None:
    curve = CostCurve.from_samples(
        [(1, 0, 0.4), (2, 0, 0.2), (3, 0, 0.3), (4, 0, 0.9), (5, 0, 0.7)]
    )
    assert [0.3, 0.3, 0.3, 0.8, 0.8] == pytest.approx(
        [curve.round_seconds(count, 0) for count in (1, 2, 3, 4, 5)]
    )


@given(
    grids(),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 20_000), seconds), max_size=10),
    st.integers(0, 700),
    st.integers(0, 30_000),
)
def test_more_tokens_never_cost_less(
    samples: list[CostSample], rounds: list[CostSample], num_tokens: int, context_tokens: int
) -> None:
    curve = CostCurve.from_samples(samples)
    for observed in rounds:
        curve.observe(*observed)
    fewer = curve.round_seconds(num_tokens, context_tokens)
    more = curve.round_seconds(num_tokens + 1, context_tokens)
    assert 0.0 < fewer <= more * (1.0 + 1e-12)
    assert curve.to_json() == CostCurve.from_json(curve.to_json()).to_json()


@given(grids(), st.lists(st.integers(0, 700), min_size=1).map(sorted), st.integers(0, 30_000))
def test_many_rounds_at_once_take_what_each_takes(
    samples: list[CostSample], counts: list[int], context_tokens: int
) -> None:
    curve = CostCurve.from_samples(samples)
    each = [curve.round_seconds(count, context_tokens) for count in counts]
    assert curve.rounds_seconds(np.array(counts), context_tokens) == pytest.approx(each)


@given(grids(), st.integers(0, 9_000))
def test_a_fresh_curve_does_not_fall_as_the_context_grows(
    samples: list[CostSample], context_tokens: int
) -> None:
    curve = CostCurve.from_samples(samples)
    for num_tokens, _, _ in samples:
        shorter = curve.round_seconds(num_tokens, context_tokens)
        longer = curve.round_seconds(num_tokens, context_tokens + 500)
        assert shorter <= longer * (1.0 + 1e-12)


def test_below_the_grid_the_curve_is_level() -> None:
    curve = CostCurve.from_samples(
        [(8, 1_000, 0.1), (16, 1_000, 0.3), (8, 2_000, 0.2), (16, 2_000, 0.4)]
    )
    assert 0.1 == curve.round_seconds(0, 0) == curve.round_seconds(8, 0)
    assert curve.round_seconds(3, 0) == curve.round_seconds(4, 0)


def test_a_context_that_costs_less_when_longer_goes_on_level() -> None:
    curve = CostCurve.from_json(
        b'{"num_tokens":[1,2],"context_tokens":[0,10],"round_seconds":[[0.2,0.4],[0.1,0.3]],"look_back":null}'
    )
    assert 0.1 == pytest.approx(curve.round_seconds(1, 1_000))


def test_the_curve_follows_a_machine_that_got_slower() -> None:
    curve = linear_curve()
    for _ in range(60):
        curve.observe(20, 500, 2.0 * linear_seconds(20, 500))
    assert 2.0 * linear_seconds(20, 500) == pytest.approx(curve.round_seconds(20, 500), rel=0.02)
    for _ in range(80):
        curve.observe(20, 500, linear_seconds(20, 500))
    assert linear_seconds(20, 500) == pytest.approx(curve.round_seconds(20, 500), rel=0.02)


def test_cells_that_no_round_visits_follow_half_way() -> None:
    curve = linear_curve()
    for _ in range(60):
        curve.observe(64, 8_000, 2.0 * linear_seconds(64, 8_000))
    assert 2.0**0.5 == pytest.approx(curve.round_seconds(1, 0) / linear_seconds(1, 0), rel=0.02)


def test_rare_spikes_do_not_move_the_curve() -> None:
    curve = linear_curve()
    truth = linear_seconds(20, 500)
    for index in range(1_000):
        curve.observe(20, 500, 10.0 * truth if index % 50 == 0 else truth)
    assert truth == pytest.approx(curve.round_seconds(20, 500), rel=0.01)
    curve.observe(20, 500, 10.0 * truth)
    assert truth == pytest.approx(curve.round_seconds(20, 500), rel=0.03)


def test_a_newer_round_pushes_neighbours_along_instead_of_crossing_them() -> None:
    flat = CostCurve.from_samples([(1, 0, 0.1), (8, 0, 0.1), (64, 0, 0.1)])
    flat.observe(1, 0, 1.0)
    assert flat.round_seconds(1, 0) == flat.round_seconds(64, 0) > 0.1
    flat.observe(64, 0, 0.01)
    flat.observe(64, 0, 0.01)
    assert flat.round_seconds(1, 0) == flat.round_seconds(64, 0) < 0.1


def test_a_round_of_no_time_is_taken_as_a_very_short_one() -> None:
    curve = linear_curve()
    curve.observe(8, 0, 0.0)
    assert 0.97 < curve.round_seconds(8, 0) / linear_seconds(8, 0) < 1.0


def test_a_saved_curve_reads_back_as_it_is_now() -> None:
    curve = linear_curve()
    curve.observe(8, 0, 1.0)
    restored = CostCurve.from_json(curve.to_json())
    assert curve.round_seconds(30, 4_000) == restored.round_seconds(30, 4_000)


def test_the_line_of_a_linear_cost_is_met() -> None:
    fixed_seconds, token_seconds = linear_curve().line(1_000)
    assert 0.021 == pytest.approx(fixed_seconds)
    assert 0.0005 == pytest.approx(token_seconds)


def test_the_line_is_as_near_to_short_rounds_as_to_long_ones() -> None:
    steps = CostCurve.from_samples([(1, 0, 0.01), (8, 0, 0.01), (64, 0, 0.01), (512, 0, 1.0)])
    fixed_seconds, token_seconds = steps.line(0)
    assert 0.01 == pytest.approx(fixed_seconds + 4 * token_seconds, rel=0.7)


@given(
    grids(), st.integers(1, 600), st.integers(0, 20_000), st.floats(0.0, 2.0), st.integers(0, 200)
)
def test_one_draft_more_would_break_the_limit(
    samples: list[CostSample], num_tokens: int, context: int, limit: float, max_drafts: int
) -> None:
    curve = CostCurve.from_samples(samples)
    drafts = curve.drafts_within(num_tokens, context, limit, max_drafts)
    longest = (1.0 + limit) * curve.round_seconds(num_tokens, context)
    assert 0 <= drafts <= max_drafts
    assert curve.round_seconds(num_tokens + drafts, context) <= longest * (1.0 + 1e-12)
    if drafts < max_drafts:
        assert longest <= curve.round_seconds(num_tokens + drafts + 1, context) * (1.0 + 1e-12)


def test_a_curve_says_what_was_measured_and_is_read_for_nothing_else() -> None:
    subject = CurveSubject(model="llama", device="GPU", dtype="float16", quantisation="none")
    curve = CostCurve.from_samples([(1, 0, 0.1), (8, 0, 0.2)], subject)
    assert subject == CostCurve.from_json(curve.to_json(), subject).subject
    assert subject == CostCurve.from_json(curve.to_json()).subject
    other = msgspec.structs.replace(subject, device="other GPU", dtype="float32")
    with pytest.raises(ModelError) as raised:
        CostCurve.from_json(curve.to_json(), other)
    sentence = "a cost curve of device GPU instead of other GPU, dtype float16 instead of float32"
    assert sentence == str(raised.value)
    made_up = CostCurve.from_samples([(1, 0, 0.1), (8, 0, 0.2)])
    with pytest.raises(ModelError, match="does not say what was measured"):
        CostCurve.from_json(made_up.to_json(), subject)


def test_a_missing_grid_point_is_named() -> None:
    with pytest.raises(ModelError, match="no round of 8 tokens with 100 context tokens"):
        CostCurve.from_samples([(1, 0, 0.1), (8, 0, 0.2), (1, 100, 0.1)])


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_measurements_are_refused(bad: float) -> None:
    with pytest.raises(ModelError, match="finite and above 0"):
        CostCurve.from_samples([(1, 0, 0.1), (8, 0, bad)])


def test_no_measurements_are_refused() -> None:
    with pytest.raises(ModelError, match="has 0 token counts"):
        CostCurve.from_samples([])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_tokens": [1]}, "1 token counts, not 2"),
        ({"num_tokens": list(range(MAX_GRID_LINES + 1))}, "257 token counts"),
        ({"num_tokens": [8, 1]}, "must ascend"),
        ({"num_tokens": [-1, 1]}, "must ascend"),
        ({"context_tokens": []}, "0 contexts"),
        ({"context_tokens": [0, 1]}, "do not match"),
        ({"num_tokens": [1, 2, 3]}, "do not match"),
        ({"round_seconds": [[0.1, 0.0]]}, "above 0"),
        ({"round_seconds": [[0.2, 0.1]]}, "must not fall"),
        ({"round_seconds": [[0.2, "x"]]}, "not a cost curve"),
        ({"device": "cpu"}, "not a cost curve"),
    ],
)
def test_malformed_files_are_model_errors(changes: dict[str, object], sentence: str) -> None:
    content = {
        "num_tokens": [1, 8],
        "context_tokens": [0],
        "round_seconds": [[0.1, 0.2]],
        "look_back": None,
    }
    CostCurve.from_json(json.dumps(content).encode())
    with pytest.raises(ModelError, match=sentence):
        CostCurve.from_json(json.dumps(content | changes).encode())


@given(st.binary(max_size=40))
def test_any_bytes_are_a_curve_or_a_model_error(content: bytes) -> None:
    with pytest.raises(ModelError):
        CostCurve.from_json(content)


def test_numbers_too_large_for_a_float_are_a_model_error() -> None:
    with pytest.raises(ModelError):
        CostCurve.from_json(
            b'{"num_tokens":[1,8],"context_tokens":[0],"round_seconds":[[0.1,1e999]],"look_back":null}'
        )
