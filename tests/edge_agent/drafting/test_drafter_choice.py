from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.drafting.drafter_choice import (
    READ_TOKENS,
    DrafterChoice,
    drafter_rates,
    looking_up_pays,
)
from edge_agent.drafting.ngram_index import MAX_INDEXED_TOKENS

# After 1, 2, 3 comes 4, then 5: four tokens agree.
PROMPT = (9, 1, 2, 3, 4, 5, 6, 9, 1, 2, 3)
rates = st.floats(0.01, 0.99)


def look_up(*prompt_ids: int) -> DrafterChoice:
    made = DrafterChoice(4)
    made.read(prompt_ids or PROMPT)
    return made


def suggested(
    made: DrafterChoice, *drafted: int, room: int = 8, model_tokens: float = 0.0
) -> int | None:
    match = made.suggest(drafted, room, model_tokens)
    return None if match is None else match.token_id


# --- which drafter --------------------------------------------------------------------------------


@given(ngram_rate=rates, model_rate=rates, room=st.integers(1, 64))
def test_where_the_room_ends_the_draft_the_higher_rate_wins(
    ngram_rate: float, model_rate: float, room: int
) -> None:
    if abs(ngram_rate - model_rate) > 1e-6:
        assert looking_up_pays(ngram_rate, model_rate, room) == (ngram_rate > model_rate)


@given(ngram_rate=rates, model_rate=rates, room=st.integers(1, 64))
def test_a_model_that_draws_nothing_in_time_is_never_asked(
    ngram_rate: float, model_rate: float, room: int
) -> None:
    assert looking_up_pays(ngram_rate, model_rate, room, model_tokens=0.0)


@given(
    ngram_rate=rates,
    model_rate=rates,
    room=st.integers(1, 64),
    model_tokens=st.floats(0.0, 64.0),
    faster=st.floats(1.0, 10.0),
)
def test_the_faster_the_model_the_more_must_be_expected_of_a_suggestion(
    ngram_rate: float, model_rate: float, room: int, model_tokens: float, faster: float
) -> None:
    slow = looking_up_pays(ngram_rate, model_rate, room, model_tokens)
    fast = looking_up_pays(ngram_rate, model_rate, room, model_tokens * faster)
    assert slow or not fast or ngram_rate == pytest.approx(model_rate)


def test_a_slow_model_of_high_rate_gives_way_to_less() -> None:
    # One token a round: 0.96, against n (1 + 0.96).
    assert looking_up_pays(0.5, 0.96, room=8, model_tokens=1.0)
    assert not looking_up_pays(0.48, 0.96, room=8, model_tokens=1.0)


# --- suggestions ----------------------------------------------------------------------------------


def test_what_followed_before_is_suggested_also_behind_drafted_tokens() -> None:
    made = look_up()
    assert (4, 5, 6) == (suggested(made), suggested(made, 4), suggested(made, 4, 5))
    assert None is suggested(made, 7)


def test_a_long_prompt_is_indexed_in_parts_and_suggests_nothing_before_its_end() -> None:
    made = look_up(*([7] * (2 * READ_TOKENS)), *PROMPT)
    made.commit(0, (4,), ())
    assert [5, 5] == [suggested(made), suggested(made)]
    made = look_up(*([7] * (3 * READ_TOKENS)), *PROMPT)
    assert [None, None, 4] == [suggested(made) for _ in range(3)]


def test_of_a_long_prompt_the_end_is_indexed_and_what_is_committed_meanwhile_stands_behind_it() -> (
    None
):
    made = look_up(*PROMPT, *([7] * (MAX_INDEXED_TOKENS - 1)), 8)
    made.record_draft(0, (), is_model=True)
    for i, token_id in enumerate((1, 2, 3)):
        made.commit(i, (token_id,), ())
    assert suggested(made) is None  # what followed at the very beginning is left out
    made.commit(3, (7, 8), ())
    assert 1 == suggested(made)


def test_when_it_is_off_it_suggests_nothing() -> None:
    made = DrafterChoice(0)
    made.read(PROMPT)
    made.commit(0, (4, 5), ())
    assert (None, False) == (suggested(made), made.is_on)


def test_a_short_match_is_not_believed_at_first() -> None:
    assert None is suggested(look_up(1, 2, 3, 1))
    made = look_up(1, 2, 3, 1)
    for _ in range(10):
        made.rates.ngram.observe(1, survived=True)
    assert 2 == suggested(made)


def test_the_model_is_asked_until_it_has_proved_worse() -> None:
    made = look_up()
    assert (None, 4) == (suggested(made, model_tokens=math.inf), suggested(made, model_tokens=0.0))
    for _ in range(10):
        made.rates.model.observe(4, survived=False)
    assert 4 == suggested(made, model_tokens=math.inf)


def test_a_draft_that_has_hardly_a_chance_is_not_made_longer() -> None:
    made = look_up(*([1, 2, 3, 4, 5] * 4))
    ahead: list[int] = []
    while (token_id := suggested(made, *ahead, room=64)) is not None:
        made.record_draft(len(ahead), ahead, is_model=False)
        ahead.append(token_id)
    assert 5 == len(ahead)  # 0.75 to the sixth is below a fifth
    made.forget_from(2)
    assert None is not suggested(made, *ahead[:2])


# --- learning -------------------------------------------------------------------------------------


def test_suggestions_are_measured_on_every_committed_token_drafted_or_not() -> None:
    made = look_up()
    before = made.rates.ngram.rate(4)
    made.commit(0, (4, 5), ())
    assert before < made.rates.ngram.rate(4)
    made.commit(2, (0,), ())  # 6 was expected
    assert made.rates.ngram.rate(4) < before + 0.08


def test_the_model_is_measured_on_its_own_tokens_up_to_the_first_that_differs() -> None:
    made, expected = look_up(1, 2, 3), drafter_rates().model
    for position, is_model in enumerate([True, False, True, True]):
        made.record_draft(position, (), is_model=is_model)
    made.commit(0, (11, 12, 99, 14), (11, 12, 13, 14))
    expected.observe(0, survived=True)
    expected.observe(0, survived=False)
    assert expected.rate(0) == made.rates.model.rate(0)


def test_tokens_that_are_forgotten_teach_nothing() -> None:
    made = look_up(1, 2, 3)
    for position in range(3):
        made.record_draft(position, (), is_model=True)
    made.forget_from(1)
    made.record_draft(1, (), is_model=False)
    made.commit(0, (11, 12, 13), (11, 12, 13))
    expected = drafter_rates().model
    expected.observe(0, survived=True)
    assert expected.rate(0) == made.rates.model.rate(0)


def test_streams_of_a_device_learn_from_each_other() -> None:
    device = drafter_rates()
    first = DrafterChoice(4, device.branch())
    first.read(PROMPT)
    for i in range(30):
        first.commit(i, (0,), ())  # a text that repeats itself
    assert device.branch().ngram.rate(4) > 0.85
