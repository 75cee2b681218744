"""A board that rests computes nothing, and is ready again when it has caught up."""

from __future__ import annotations

import pytest

from edge_agent.drafting.board_state import Readiness
from edge_agent.drafting.device_rest import DeviceRest
from edge_agent.drafting.settings import DraftSettings
from edge_agent.drafting.stream import AgentStream
from shared.protocol.draft_path import DraftToken
from shared.protocol.messages import AcceptanceMode, Finish, Opened, Verdict
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.sampling import SamplingParameters

PROMPT = tuple(range(11, 21))


def make_stream(*, drafts: bool = True) -> AgentStream:
    settings = DraftSettings(
        row_entries=8, confidence_stop=0.0, prefill_chunk_tokens=16, context_tokens=1000
    )
    sampling = SamplingParameters(temperature=0.7)
    return AgentStream(
        channel=4, vocab_size=100, settings=settings, sampling=sampling, drafts=drafts
    )


def opened(stream: AgentStream, mode: AcceptanceMode = "coupled") -> AgentStream:
    stream.start(Opened(4, pack_token_ids(PROMPT), seed=7, acceptance_mode=mode))
    return stream


def tell(
    stream: AgentStream,
    *token_ids: int,
    window: int = 0,
    draft_length: int = 0,
    finish: Finish | None = None,
    rests: bool = False,
) -> None:
    stream.commit_verdict(
        Verdict(
            channel=4,
            position=len(stream.output_ids),
            num_accepted=0,
            tokens=pack_token_ids(token_ids),
            window=window,
            draft_length=draft_length,
            finish=finish,
            rests=rests,
        ),
        0.0,
    )


def let_rest(stream: AgentStream, *token_ids: int) -> None:
    tell(stream, *token_ids, rests=True)


def read(stream: AgentStream) -> int:
    """How many tokens the draft model reads before it may draw or has nothing to do."""
    num_read = 0
    while (step := stream.next_step()) is not None and step.spec is None:
        stream.record_step(step, None, 0.1, 0.0)
        num_read += len(step.token_ids)
    return num_read


def drafting(mode: AcceptanceMode = "coupled") -> AgentStream:
    """A stream that is ready and may draft four tokens."""
    stream = opened(make_stream(), mode)
    read(stream)
    assert stream.take_ready()
    tell(stream, 20, window=4, draft_length=4)
    return stream


def test_without_a_window_a_board_reads_along_unless_it_is_told_to_rest() -> None:
    stream = drafting()
    for _ in range(12):
        tell(stream, 21)
    assert read(stream) > 8
    let_rest(stream, *range(30, 60))
    assert (True, None) == (stream.rests, stream.next_step())


@pytest.mark.parametrize("mode", ["coupled", "rejection"])
def test_a_rest_ends_the_drafts_that_were_begun(mode: AcceptanceMode) -> None:
    stream = drafting(mode)
    step = stream.next_step()
    assert step is not None
    assert step.spec is not None
    let_rest(stream, 21, 22)
    assert [] == stream.record_step(step, DraftToken(7, None), 0.1, 0.0)
    assert (None, 0) == (stream.next_step(), len(stream.unsent.tokens))
    assert [] == stream.take_due_drafts()


def test_after_a_rest_the_board_reads_up_says_ready_and_drafts() -> None:
    stream = drafting()
    let_rest(stream, *range(30, 60))
    assert Readiness.READING is stream.state.readiness
    assert not stream.take_ready()
    assert not stream.take_ready_without_model()
    tell(stream, 21)
    assert not stream.take_ready(), "not before it has caught up"
    assert 30 <= read(stream)
    assert stream.take_ready()
    tell(stream, 22, window=4)
    step = stream.next_step()
    assert step is not None
    assert step.spec is not None


def test_a_window_ends_a_rest_at_once() -> None:
    stream = drafting()
    let_rest(stream, 21)
    tell(stream, 22, window=4)
    assert not stream.rests
    assert None is not stream.next_step()


def test_a_board_that_rests_begins_its_next_stream_at_rest() -> None:
    device, first, second = DeviceRest(), drafting(), make_stream()
    let_rest(first, 21)
    device.begin(second, [first])
    assert 0 == read(opened(second))
    tell(first, 22, finish=Finish("length", 3))
    device.note(first)
    third = make_stream()
    device.begin(third, [])
    assert 0 == read(opened(third))


def test_it_reads_the_prompt_when_the_first_verdict_says_no_more_of_a_rest() -> None:
    device, first, second = DeviceRest(), drafting(), make_stream()
    let_rest(first, 21)
    device.begin(second, [first])
    tell(opened(second), 20)
    assert len(PROMPT) == read(second)
    assert second.take_ready()


def test_a_stream_without_speculation_says_nothing_of_others() -> None:
    device, first, off = DeviceRest(), drafting(), make_stream(drafts=False)
    let_rest(first, 21)
    device.note(first)
    device.note(off)
    second = make_stream()
    device.begin(second, [])
    assert second.rests
