"""A board changes its rows as the target's are changed, and draws and sends what came of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.drafting.changed_row import changed_row
from edge_agent.drafting.draw import draw_token
from edge_agent.drafting.draw_spec import draw_spec
from edge_agent.drafting.row_changes import RowChanges
from edge_agent.drafting.settings import DraftSettings
from shared.speculation.logit_processors import NO_PROCESSORS, LogitProcessors
from shared.speculation.processed_logits import processed
from shared.speculation.sampling import SamplingParameters

VOCAB_SIZE = 12
SETTINGS = DraftSettings(
    row_entries=8, confidence_stop=0.0, prefill_chunk_tokens=8, context_tokens=64
)
SAMPLED = SamplingParameters(temperature=0.8)
token_ids = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=8)
asked = st.builds(
    LogitProcessors,
    frequency_penalty=st.floats(-2, 2),
    presence_penalty=st.floats(-2, 2),
    repetition_penalty=st.floats(0.5, 2),
    logit_bias=st.dictionaries(st.integers(0, VOCAB_SIZE - 1), st.floats(-100, 100)).map(
        lambda biases: tuple(biases.items())
    ),
    min_p=st.floats(0, 1),
)


@settings(max_examples=50)
@given(asked, token_ids, token_ids, token_ids, st.integers(0, 1000))
def test_rows_are_those_of_the_reference(
    asked: LogitProcessors, prompt: list[int], output: list[int], drafted: list[int], seed: int
) -> None:
    logits = np.random.default_rng(seed).normal(size=VOCAB_SIZE).astype(np.float32)
    before = logits.copy()
    expected = processed(
        logits,
        asked,
        SAMPLED,
        prompt_ids=prompt,
        output_ids=[*output, *drafted],
        end_ids=(),
    )
    change = RowChanges(asked).behind(prompt, output, drafted)
    if change is None:
        assert np.array_equal(expected, logits)
        return
    np.testing.assert_allclose(changed_row(logits, change, SAMPLED), expected, rtol=1e-5, atol=1e-5)
    assert np.array_equal(before, logits), "the model's own row is left alone"


def test_nothing_is_done_where_nothing_is_asked() -> None:
    for nothing in (NO_PROCESSORS, LogitProcessors(min_tokens=5, ignore_eos=True)):
        assert RowChanges(nothing).behind([1], [2], [3]) is None


@pytest.mark.parametrize("mode", ["coupled", "rejection"])
def test_what_a_bias_rules_out_is_neither_drawn_nor_sent(mode: str) -> None:
    change = RowChanges(LogitProcessors(logit_bias=((3, -100.0), (40, 5.0)))).behind([], [], [])
    logits = np.zeros(VOCAB_SIZE, np.float32)
    logits[3] = 20.0
    for position in range(20):
        where = (7, 0, position, VOCAB_SIZE)
        spec = draw_spec(mode, SAMPLED, SETTINGS, *where, change, is_guess=False)  # type: ignore[arg-type]
        drawn = draw_token(spec, logits)
        assert drawn is not None
        assert 3 != drawn.token_id
        assert drawn.row is None or 3 not in drawn.row.token_ids.tolist()


def test_tokens_that_the_board_does_not_have_change_nothing() -> None:
    logits = np.ones(4, np.float32)
    change = RowChanges(LogitProcessors(frequency_penalty=1.0, repetition_penalty=2.0)).behind(
        [1, 90], [2, 91], [2]
    )
    assert change is not None
    assert [1.0, 0.5, -1.5, 1.0] == changed_row(logits, change, SAMPLED).tolist()
