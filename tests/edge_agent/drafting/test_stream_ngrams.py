"""One stream whose text repeats itself: what it drafts without the model, and what that changes."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.drafting.drafter_choice import DrafterChoice
from edge_agent.drafting.stream import AgentStream
from shared.protocol.draft_path import DraftToken
from shared.protocol.messages import AcceptanceMode, Draft
from shared.speculation.sparse_row import WEIGHT_TOTAL
from tests.edge_agent.drafting.test_stream import (
    ROW,
    contents,
    draw_step,
    live_ids,
    make_stream,
    opened,
    read,
    unsent_ids,
    verdict,
)
from verifier.streams.draft_arrival import unpack_rows

# 1, 2, 3 was followed by 4, 5, …, 9.
PROMPT = (1, 2, 3, 4, 5, 6, 7, 8, 9, 50, 51, 1, 2)
SAID = 3


def open_stream(
    mode: AcceptanceMode = "coupled",
    prompt_ids: tuple[int, ...] = PROMPT,
    *,
    has_model: bool = True,
    **changes: Any,
) -> AgentStream:
    """A stream that the verifier has just opened."""
    stream = make_stream(**changes)
    stream.drafter_choice = DrafterChoice(4)
    if not has_model:
        stream.leave_slot()
    stream.start(opened(mode, prompt_ids))
    return stream


def said(stream: AgentStream, *, draft_length: int = 3, window: int = 4) -> list[Draft]:
    """The target says 3, and a window is there; what goes out at once."""
    assert stream.take_ready_without_model()
    verdict(stream, SAID, draft_length=draft_length, window=window)
    return stream.take_due_drafts()


# --- a board without a model, or one that is still reading ----------------------------------------


def test_a_board_without_a_model_sends_at_once_what_came_before() -> None:
    stream = open_stream(has_model=False)
    assert [(1, [4, 5, 6, 7])] == contents(said(stream))
    assert (None, [4, 5, 6, 7]) == (stream.next_step(), live_ids(stream))


def test_it_goes_on_where_the_target_agreed() -> None:
    stream = open_stream(has_model=False)
    said(stream)
    verdict(stream, accepted=3, draft_length=3, window=4)
    assert [(5, [8, 9, 50])] == contents(stream.take_due_drafts())


def test_without_anything_to_repeat_it_passes() -> None:
    stream = open_stream(has_model=False)
    said(stream)
    verdict(stream, 77)
    assert [(2, [])] == contents(stream.take_due_drafts())
    assert [] == stream.take_due_drafts()


def test_a_board_that_reads_drafts_meanwhile_and_reads_on() -> None:
    prompt_ids = (*PROMPT[:11], *range(52, 92), 1, 2)
    stream = open_stream(prompt_ids=prompt_ids, prefill_chunk_tokens=16)
    step = stream.next_step()
    assert [(1, [4, 5, 6, 7])] == contents(said(stream))
    assert step is not None
    assert [] == stream.record_step(step, None, 0.1, 0.0)
    following = stream.next_step()
    assert following is not None
    assert (16, prompt_ids[16:32]) == (following.num_kept_tokens, following.token_ids)


def test_what_was_read_stays_read_when_a_suggestion_was_wrong_meanwhile() -> None:
    """Verdicts come faster than a chunk of the prompt is read, or it would never end."""
    prompt_ids = (*PROMPT[:11], *range(52, 92), 1, 2)
    stream = open_stream(prompt_ids=prompt_ids, prefill_chunk_tokens=16)
    step = stream.next_step()
    assert step is not None
    said(stream)
    verdict(stream, 77)  # not 4
    assert [] == stream.record_step(step, None, 0.1, 0.0)
    assert 16 == stream.feed.num_fed_tokens


def test_of_a_step_that_read_wrong_tokens_the_right_ones_count() -> None:
    stream = ready_stream()
    said(stream, window=6)
    step, _ = draw_step(stream)  # 2, 3 and the draft 4, 5, 6, 7
    verdict(stream, 99, accepted=2)
    assert [] == stream.record_step(step, DraftToken(8), 0.1, 0.0)
    assert len(PROMPT) + 3 == stream.feed.num_fed_tokens
    assert (len(PROMPT) + 3, (99,)) == (
        draw_step(stream)[0].num_kept_tokens,
        draw_step(stream)[0].token_ids,
    )


# --- Ready ----------------------------------------------------------------------------------------


def test_in_coupled_a_board_is_ready_before_it_has_read() -> None:
    stream = open_stream(prompt_ids=tuple(range(1, 90)))
    assert stream.take_ready_without_model()
    assert not stream.take_ready_without_model()  # once
    assert not stream.take_ready()


def test_in_rejection_it_waits_for_something_to_say() -> None:
    stream = open_stream("rejection", prompt_ids=(*range(1, 90), 1, 2, 3))
    assert stream.take_ready_without_model()
    assert not open_stream("rejection", prompt_ids=tuple(range(1, 90))).take_ready()


def test_when_it_is_off_only_the_model_makes_a_board_ready() -> None:
    stream = open_stream(prompt_ids=tuple(range(1, 90)))
    stream.drafter_choice = DrafterChoice(0)
    assert not stream.take_ready_without_model()


@pytest.mark.parametrize("mode", ["coupled", "rejection"])
def test_after_a_lost_window_a_step_of_the_model_comes_first(mode: AcceptanceMode) -> None:
    """The verifier may have waited for a model that hangs; it must not do so again and again."""
    stream = open_stream(mode, prompt_ids=(*range(1, 90), 1, 2), prefill_chunk_tokens=16)
    step = stream.next_step()
    stream.take_ready_without_model()
    verdict(stream, SAID)
    verdict(stream, 4, window=0, draft_length=0)
    assert not stream.take_ready_without_model()
    assert step is not None
    stream.record_step(step, None, 0.1, 0.0)
    assert stream.take_ready_without_model()


def test_a_board_without_a_model_is_ready_again_at_once() -> None:
    stream = open_stream(has_model=False)
    said(stream)
    verdict(stream, accepted=1, window=0, draft_length=0)
    assert stream.take_ready_without_model()


# --- beside a model that is there -----------------------------------------------------------------


def ready_stream(mode: AcceptanceMode = "coupled", *, model_is_bad: bool = True) -> AgentStream:
    """A stream whose model has read the prompt; it has mostly been wrong so far, or not."""
    stream = open_stream(mode)
    for _ in range(60):
        stream.drafter_choice.rates.model.observe(3, survived=not model_is_bad)
        stream.drafter_choice.rates.model.observe(4, survived=not model_is_bad)
    read(stream)
    return stream


def test_what_is_looked_up_is_drafted_and_the_model_reads_it_with_the_next_draw() -> None:
    stream = ready_stream()
    assert [(1, [4, 5, 6, 7])] == contents(said(stream, window=6))
    step, spec = draw_step(stream)
    assert ((2, 3, 4, 5, 6, 7), 5) == (step.token_ids, spec.position)


def test_a_model_that_is_right_more_often_is_asked() -> None:
    stream = ready_stream(model_is_bad=False)
    assert [] == said(stream)
    assert [] == unsent_ids(stream)
    assert ((2, 3), 1) == (draw_step(stream)[0].token_ids, draw_step(stream)[1].position)


def test_behind_a_drawn_token_the_text_is_looked_up_again() -> None:
    stream = ready_stream()
    verdict(stream, 60)
    stream.take_ready()
    verdict(stream, 1, window=8)
    assert [] == stream.take_due_drafts()
    for token_id in (2, 3):
        step, _ = draw_step(stream)
        sent = stream.record_step(step, DraftToken(token_id), 0.1, 100.0)
    assert [(2, [2, 3, 4, 5, 6])] == contents(sent)  # and no further: hardly a chance


def test_a_draw_that_runs_is_not_dropped_for_what_is_looked_up() -> None:
    """Whatever it comes to must be put to the test, or the text would be biased."""
    stream = ready_stream("rejection")
    stream.take_ready()
    verdict(stream, 1, draft_length=3, window=7)
    verdict(stream, 2, draft_length=3, window=7)
    step, _ = draw_step(stream)
    stream.drafter_choice.rates.model.observe(3, survived=False)
    assert [] == stream.take_due_drafts()
    assert [] == unsent_ids(stream)
    stream.record_step(step, DraftToken(3, ROW), 0.1, 0.0)
    assert 3 in [*unsent_ids(stream), *live_ids(stream)]


def test_in_rejection_its_row_knows_nothing_else() -> None:
    stream = ready_stream("rejection")
    sent = said(stream, draft_length=3, window=7)
    assert [(1, [4, 5, 6])] == contents(sent)
    assert [(7, False)] == [(one.token_id, one.has_row) for one in stream.unsent.tokens]  # a guess
    rows = unpack_rows(sent[0].rows, 100)
    assert [([4], [WEIGHT_TOTAL]), ([5], [WEIGHT_TOTAL]), ([6], [WEIGHT_TOTAL])] == [
        (row.token_ids.tolist(), row.weights.tolist()) for row in rows
    ]


def test_looking_up_costs_no_time() -> None:
    (sent,) = said(ready_stream())
    assert 0 == sent.drafting_milliseconds


def test_a_reopened_stream_looks_up_what_it_said_before() -> None:
    stream = open_stream(has_model=False)
    said(stream)
    stream.reopen(9)
    stream.start(opened("coupled", PROMPT))
    assert stream.take_ready_without_model()
    verdict(stream, 4, 5)
    assert [(3, [6, 7, 8, 9, 50, 51])] == contents(stream.take_due_drafts())
