"""Looking back is priced by size and depth of a chunk, never less for more, and learned."""

from __future__ import annotations

import json
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ModelError
from shared.speculation.sampling import GREEDY
from verifier.cost_curve.curve import CostCurve
from verifier.cost_curve.look_back import (
    MAX_LINES,
    STREAM_TOKENS,
    Chunk,
    ChunkSample,
    LookBack,
    chunks_of,
)
from verifier.target.round import DraftCheck, Round, RoundItem

PAIR_SECONDS = 2e-9  # of Llama-3.1-8B on an H100
TOKENS, DEPTHS = (16, 64, 256), (0, 1_000, 16_000, 128_000)
SAMPLES = [(1, 0, 0.008), (1024, 0, 0.03), (1, 128_000, 0.013), (1024, 128_000, 0.035)]


def pair_seconds(chunk: Chunk, scale: float = 1.0) -> float:
    return scale * PAIR_SECONDS * chunk.num_tokens * chunk.depth_tokens


def pairs_look_back(scale: float = 1.0) -> LookBack:
    chunks = [Chunk(*point) for point in product(TOKENS, DEPTHS)]
    return LookBack.from_samples([(chunk, pair_seconds(chunk, scale)) for chunk in chunks])


def curve_of(scale: float) -> CostCurve:
    """A curve whose chunks take so many times what pairs of tokens take."""
    lone = CostCurve.from_samples(SAMPLES)
    chunks = [Chunk(*point) for point in product(TOKENS, DEPTHS)]
    return CostCurve.from_samples(
        SAMPLES,
        chunk_samples=[
            (chunk, lone.round_seconds(chunk.num_tokens, sum(chunk)) + pair_seconds(chunk, scale))
            for chunk in chunks
        ],
    )


def true_seconds(num_tokens: int, context_tokens: int, chunk: Chunk, slow: float = 1.0) -> float:
    lone = CostCurve.from_samples(SAMPLES).round_seconds(num_tokens, context_tokens)
    return slow * (lone + pair_seconds(chunk))


chunks = st.builds(Chunk, st.integers(1, 600), st.integers(0, 200_000))


@st.composite
def tables(draw: st.DrawFn) -> list[ChunkSample]:
    tokens = draw(st.lists(st.integers(1, 600), min_size=2, max_size=5, unique=True))
    depths = draw(st.lists(st.integers(1, 200_000), min_size=1, max_size=4, unique=True))
    seconds = st.floats(-0.01, 1.0)
    return [(Chunk(n, depth), draw(seconds)) for n in tokens for depth in depths]


@pytest.mark.parametrize(
    "chunk",
    [Chunk(n, d) for n in (16, 32, 64, 112, 256, 512) for d in (0, 500, 1_000, 70_000, 200_000)],
)
def test_pairs_of_tokens_are_met_between_the_lines_and_beyond_them(chunk: Chunk) -> None:
    assert pair_seconds(chunk) == pytest.approx(pairs_look_back().seconds([chunk]))


def test_a_chunk_costs_as_much_as_one_of_whole_steps() -> None:
    prices = [pairs_look_back().seconds([Chunk(n, 50_000)]) for n in (17, 20, 32, 33)]
    assert prices[0] == prices[1] == prices[2] < prices[3]


@pytest.mark.parametrize("depth", [0, 1_000, 10**6])
def test_as_few_tokens_as_streams_have_anyway_cost_nothing_more(depth: int) -> None:
    assert 0.0 == pairs_look_back().seconds([Chunk(STREAM_TOKENS, depth)])


def test_chunks_of_several_prompts_add_up() -> None:
    table = pairs_look_back()
    one, other = Chunk(64, 9_000), Chunk(128, 2_000)
    assert table.seconds([one]) + table.seconds([other]) == table.seconds([one, other])
    assert 0.0 == table.seconds([])


def test_what_took_less_than_the_curve_says_costs_nothing() -> None:
    table = LookBack.from_samples([(Chunk(n, 100), -0.01) for n in (16, 64)])
    assert 0.0 == table.seconds([Chunk(500, 10_000)])


def test_a_window_makes_depth_cost_no_more() -> None:
    chunks = [Chunk(*point) for point in product(TOKENS, DEPTHS)]
    seen = [(chunk, chunk.num_tokens * min(chunk.depth_tokens, 1_000) * 1e-9) for chunk in chunks]
    table = LookBack.from_samples(seen)
    near, far = (table.seconds([Chunk(100, depth)]) for depth in (1_000, 500_000))
    assert 0.0 < near == pytest.approx(far)


def test_what_is_not_looking_back_is_measured_at_depth_0() -> None:
    """A chunk that no CUDA graph runs takes longer however little is before it."""
    table = LookBack.from_samples(
        [(Chunk(n, depth), 0.01 * (n > 64)) for n in (64, 80, 256) for depth in (0, 1_000)]
    )
    assert [0.0, 0.01, 0.01] == pytest.approx([table.seconds([Chunk(n, 0)]) for n in (64, 65, 500)])


@given(
    tables(),
    st.lists(st.tuples(st.lists(chunks, min_size=1, max_size=3), st.floats(-1.0, 1.0)), max_size=8),
    chunks,
)
def test_a_longer_chunk_never_costs_less(
    samples: list[ChunkSample], rounds: list[tuple[list[Chunk], float]], chunk: Chunk
) -> None:
    table = LookBack.from_samples(samples)
    for observed, seconds_more in rounds:
        table.observe(observed, seconds_more)
    longer = chunk._replace(num_tokens=chunk.num_tokens + 1)
    assert 0.0 <= table.seconds([chunk]) <= table.seconds([longer]) * (1.0 + 1e-12)
    assert table.grid == LookBack(table.grid).grid


@given(chunks.filter(lambda chunk: chunk.num_tokens > STREAM_TOKENS), st.floats(0.3, 3.0))
def test_a_price_moves_towards_what_it_should_have_been(chunk: Chunk, scale: float) -> None:
    table = pairs_look_back()
    before = table.seconds([chunk])
    table.observe([chunk], (scale - 1.0) * before)
    after = table.seconds([chunk])
    if scale > 1.0:
        assert before <= after
    else:
        assert after <= before + 1e-6


def test_one_round_halves_or_doubles_a_price_at_most() -> None:
    chunk = Chunk(64, 16_000)
    for seconds_more, factor in ((1.0, 2.0), (-1.0, 0.5)):
        table = pairs_look_back()
        table.observe([chunk], seconds_more)
        assert factor * pair_seconds(chunk) == pytest.approx(table.seconds([chunk]), rel=1e-4)


# --- learning, in the curve -----------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.0, 0.01, 0.3, 3.0, 30.0])
@pytest.mark.parametrize("chunk", [Chunk(40, 20_000), Chunk(16, 120_000), Chunk(200, 5_000)])
def test_a_wrong_price_converges_and_leaves_other_rounds_as_they_are(
    scale: float, chunk: Chunk
) -> None:
    curve, size = curve_of(scale), (16 + chunk.num_tokens, 6_000 + sum(chunk))
    lone = curve.round_seconds(16, 6_000)
    for _ in range(300):
        curve.observe(*size, true_seconds(*size, chunk), [chunk])
    learned = curve.round_seconds(*size, [chunk])
    assert true_seconds(*size, chunk) == pytest.approx(learned, rel=0.02)
    assert lone == pytest.approx(curve.round_seconds(16, 6_000), rel=0.03)


def test_what_is_learned_at_one_depth_is_half_believed_at_others() -> None:
    curve, chunk, other = curve_of(0.25), Chunk(64, 16_000), Chunk(64, 128_000)
    size, other_size = (80, 22_064), (80, 134_064)
    before = curve.round_seconds(*other_size, [other]) - curve.round_seconds(*other_size)
    for _ in range(300):
        curve.observe(*size, true_seconds(*size, chunk), [chunk])
    after = curve.round_seconds(*other_size, [other]) - curve.round_seconds(*other_size)
    assert 2.0 == pytest.approx(after / before, rel=0.05)


@pytest.mark.parametrize("chunk", [Chunk(100, 0), Chunk(100, 900)])
def test_a_chunk_at_the_start_of_its_prompt_teaches_the_curve(chunk: Chunk) -> None:
    curve, size = curve_of(1.0), (116, 6_000 + sum(chunk))
    look_back = curve.round_seconds(*size, [chunk]) - curve.round_seconds(*size)
    for _ in range(200):
        curve.observe(*size, true_seconds(*size, chunk, slow=2.0), [chunk])
    assert curve.round_seconds(*size, [chunk]) - curve.round_seconds(*size) == pytest.approx(
        look_back, abs=1e-6
    )
    assert true_seconds(*size, chunk, slow=2.0) == pytest.approx(
        curve.round_seconds(*size, [chunk]), rel=0.02
    )


def test_where_looking_back_is_next_to_nothing_the_curve_learns_that_rounds_are_shorter() -> None:
    """A context that was measured short goes on by its slope: far too dear, or right."""
    curve, chunk = curve_of(1e-6), Chunk(64, 100_000)
    size = (80, 106_064)
    truth = 0.5 * curve.round_seconds(*size)
    for _ in range(200):
        curve.observe(*size, truth, [chunk])
    assert truth == pytest.approx(curve.round_seconds(*size, [chunk]), rel=0.02)


def test_rare_stalls_do_not_move_a_price() -> None:
    curve, chunk = curve_of(1.0), Chunk(40, 60_000)
    size = (56, 66_040)
    truth = true_seconds(*size, chunk)
    for i in range(1_000):
        curve.observe(*size, 10.0 * truth if i % 50 == 0 else truth, [chunk])
    assert truth == pytest.approx(curve.round_seconds(*size, [chunk]), rel=0.02)


def test_a_curve_without_chunks_takes_them_for_any_other_tokens() -> None:
    curve, chunk = CostCurve.from_samples(SAMPLES), Chunk(100, 5_000)
    assert curve.round_seconds(100, 5_100) == curve.round_seconds(100, 5_100, [chunk])
    curve.observe(100, 5_100, 1.0, [chunk])
    assert curve.round_seconds(100, 5_100) > CostCurve.from_samples(SAMPLES).round_seconds(
        100, 5_100
    )


# --- rounds and files -----------------------------------------------------------------------------


def item(
    num_read: int, num_drafts: int = 0, depth: int = 100, *, is_checked: bool = True
) -> RoundItem:
    drafts = (5,) * num_drafts
    check = DraftCheck(drafts, (), "coupled", GREEDY, 0, 0, True) if is_checked else None
    return RoundItem(1, (7,) * num_read + drafts, depth, (), check)


def test_chunks_of_a_round_are_its_parts_of_prompts_not_its_drafts() -> None:
    round_ = Round(
        (
            item(1, 40),
            item(STREAM_TOKENS),
            item(STREAM_TOKENS + 1, 3, 500),
            item(300, depth=0, is_checked=False),
        )
    )
    assert (Chunk(STREAM_TOKENS + 1, 500), Chunk(300, 0)) == chunks_of(round_)


def test_a_saved_curve_keeps_what_chunks_cost() -> None:
    curve, chunk = curve_of(1.0), Chunk(100, 60_000)
    curve.observe(116, 66_100, 0.5, [chunk])
    restored = CostCurve.from_json(curve.to_json())
    assert curve.round_seconds(116, 66_100, [chunk]) == restored.round_seconds(116, 66_100, [chunk])


def test_a_missing_point_is_named() -> None:
    with pytest.raises(ModelError, match=r"no Chunk\(num_tokens=64, depth_tokens=9\) was measured"):
        LookBack.from_samples([(Chunk(16, 9), 0.1), (Chunk(64, 8), 0.1), (Chunk(16, 8), 0.1)])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_tokens": [16]}, "1 chunks, not 2"),
        ({"num_tokens": list(range(MAX_LINES + 1))}, "65 chunks"),
        ({"num_tokens": [64, 16]}, "chunks of a cost curve must ascend"),
        ({"depth_tokens": [0]}, "1 depths, not 2"),
        ({"depth_tokens": [-1, 9]}, "depths of a cost curve must ascend"),
        ({"num_tokens": [16, 64, 256]}, "do not match its chunks and depths"),
        ({"depth_tokens": [0, 1, 2]}, "do not match its chunks and depths"),
        ({"seconds": [[0.0, 0.0], [-0.1, 0.2]]}, "not below 0"),
        ({"seconds": [[0.0, 0.0], [0.2, 0.1]]}, "must not fall"),
        ({"seconds": [[0.0, 0.0], [0.2, "x"]]}, "not a cost curve"),
        ({"depth": 3}, "not a cost curve"),
    ],
)
def test_malformed_files_are_model_errors(changes: dict[str, object], sentence: str) -> None:
    look_back = {
        "num_tokens": [16, 64],
        "depth_tokens": [0, 1000],
        "seconds": [[0.0, 0.0], [0.1, 0.2]],
    }
    content = msgspec.json.decode(CostCurve.from_samples(SAMPLES).to_json())
    CostCurve.from_json(json.dumps(content | {"look_back": look_back}).encode())
    with pytest.raises(ModelError, match=sentence):
        CostCurve.from_json(json.dumps(content | {"look_back": look_back | changes}).encode())
