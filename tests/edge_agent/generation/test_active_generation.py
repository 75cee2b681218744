"""One generation: what it asks the verifier, what its client gets, and what is counted."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
import numpy as np
import pytest

from edge_agent.draft_model.scripted_drafter import ScriptedDrafter, scripted_drafter
from edge_agent.drafting.settings import DraftSettings
from edge_agent.generation.active_generation import ActiveGeneration, Event
from edge_agent.generation.generation import (
    Finished,
    GenerationRequest,
    PromptPiece,
    TextPiece,
    Timings,
)
from edge_agent.output_parsing.output_parser import NOTHING_APART, OutputReading
from shared.errors import (
    ModelError,
    PromptTooLong,
    RemoteProtocolError,
    RequestRefused,
    TooManyStreams,
    VerifierAway,
)
from shared.protocol.draft_path import DraftToken
from shared.protocol.grammar import Grammar
from shared.protocol.messages import (
    ChatMessage,
    Draft,
    Error,
    ErrorCode,
    Finish,
    FinishReason,
    Open,
    Opened,
    OutputFormat,
    PromptLogprobs,
    Ready,
    Resume,
    Verdict,
)
from shared.protocol.session import StreamState
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.sampling import GREEDY
from shared.speculation.scripted_model import ScriptedModel, scripted_token_bytes

MODEL = ScriptedModel(100, seed=3)
WORDS = [token_bytes.decode() for token_bytes in scripted_token_bytes(100)]
PROMPT = (11, 12, 13)
PROMPT_BYTES = pack_token_ids(PROMPT)


def make_generation(now: float = 10.0, **request: Any) -> ActiveGeneration:
    return ActiveGeneration(
        GenerationRequest(**({"text": "once", "sampling": GREEDY} | request)),
        scripted_drafter(MODEL),
        DraftSettings(
            row_entries=8, confidence_stop=0.0, prefill_chunk_tokens=16, context_tokens=100
        ),
        now,
    )


def opened(generation: ActiveGeneration, channel: int = 2, **changes: Any) -> ActiveGeneration:
    generation.open_message(channel)
    message = Opened(channel, pack_token_ids(PROMPT), seed=77, acceptance_mode="coupled", **changes)
    generation.receive(message, 30, now=11.0)
    return generation


def verdict(
    generation: ActiveGeneration,
    *own: int,
    accepted: int = 0,
    reason: FinishReason | None = None,
    text_bytes: int = 10**6,
    now: float = 12.0,
    num_forced: int = 0,
) -> None:
    finish = Finish(reason, text_bytes) if reason else None
    position = len(generation.stream.output_ids)
    tokens = pack_token_ids(own)
    message = Verdict(2, position, accepted, tokens, 4, 2, finish, num_forced=num_forced)
    generation.receive(message, 20, now)


def draft(generation: ActiveGeneration, *token_ids: int) -> None:
    """The board drafts these tokens and sends them when they are due."""
    for token_id in token_ids:
        step = generation.stream.next_step()
        assert step is not None
        for message in generation.stream.record_step(step, DraftToken(token_id), 0.1, now=0.0):
            generation.record_sent(message, 25, now=0.0)


def all_events(generation: ActiveGeneration) -> list[Event]:
    return [generation.events.get_nowait() for _ in range(generation.events.qsize())]


def events(generation: ActiveGeneration) -> list[Event]:
    """Without the figures that come with the pieces."""
    return [
        msgspec.structs.replace(event, so_far=None) if isinstance(event, TextPiece) else event
        for event in all_events(generation)
    ]


def timings(generation: ActiveGeneration) -> Timings:
    (finished,) = [event for event in events(generation) if isinstance(event, Finished)]
    return finished.timings


# --- what the verifier is asked -------------------------------------------------------------------


def test_a_generation_opens_with_what_the_client_asked() -> None:
    generation = make_generation(
        messages=(ChatMessage("user", "hello"),),
        text="",
        seed=5,
        stop=("end",),
        max_tokens=9,
        acceptance_mode="rejection",
        draft_length=3,
        grammar=Grammar("regex", "a+"),
    )
    message = generation.open_message(4)
    assert message == Open(
        channel=4,
        stream_id=message.stream_id,
        messages=(ChatMessage("user", "hello"),),
        sampling=GREEDY,
        seed=5,
        stop=("end",),
        max_tokens=9,
        acceptance_mode="rejection",
        draft_length=3,
        grammar=Grammar("regex", "a+"),
    )
    assert (StreamState.OPENING, 4) == (generation.state, generation.stream.channel)


def test_a_verifier_that_knows_no_grammars_ends_a_generation_with_one() -> None:
    generation = make_generation(grammar=Grammar("regex", "a+", "guided_regex"))
    generation.open_message(0)
    with pytest.raises(RemoteProtocolError, match="older"):
        generation.receive(Opened(0, pack_token_ids(PROMPT), 77, "coupled"), 30, now=11.0)


def test_a_lost_link_is_taken_up_with_what_was_settled_and_committed() -> None:
    generation = opened(make_generation())
    first = generation.open_message(2).stream_id
    opened(generation)
    verdict(generation, 20)
    verdict(generation, 21)
    message = generation.open_message(0)
    assert message == Open(
        channel=0,
        stream_id=first,
        prompt=pack_token_ids(PROMPT),
        committed=pack_token_ids([20, 21]),
        sampling=GREEDY,
        seed=77,
        acceptance_mode="coupled",
    )
    assert StreamState.OPENING is generation.state


def test_a_link_lost_before_the_answer_asks_the_same_again() -> None:
    generation = make_generation()
    assert generation.open_message(0) == generation.open_message(0)


@pytest.mark.parametrize(("draft_length", "expected"), [(None, True), (3, True), (0, False)])
def test_speculation_may_be_off(draft_length: int | None, expected: bool) -> None:
    assert expected == make_generation(draft_length=draft_length).stream.drafts


# --- what the client gets -------------------------------------------------------------------------


def test_text_comes_as_it_is_committed_with_its_origin() -> None:
    generation = opened(make_generation())
    verdict(generation, 20)
    draft(generation, 31, 32)
    verdict(generation, 40, accepted=2)
    assert [
        TextPiece(WORDS[20], "target", "alone"),
        TextPiece(WORDS[31], "accepted"),
        TextPiece(WORDS[32], "accepted"),
        TextPiece(WORDS[40], "target", "bonus"),
    ] == events(generation)
    assert StreamState.RUNNING is generation.state


def test_the_targets_own_tokens_say_why_they_are_its_own() -> None:
    generation = opened(make_generation())
    verdict(generation, 20)
    draft(generation, 31, 32)
    verdict(generation, 41, 42, accepted=1)
    verdict(generation, 43)
    assert [
        TextPiece(WORDS[20], "target", "alone"),
        TextPiece(WORDS[31], "accepted"),
        TextPiece(WORDS[41], "target", "rejection"),
        TextPiece(WORDS[42], "target", "alone"),
        TextPiece(WORDS[43], "target", "alone"),
    ] == events(generation)


def test_what_a_grammar_forced_is_told_apart_from_what_the_target_chose() -> None:
    generation = opened(make_generation())
    verdict(generation, 20, 21, 22, num_forced=2)
    draft(generation, 31, 32)
    verdict(generation, 41, 42, accepted=2, num_forced=1)
    verdict(generation, 43, num_forced=5)  # more than there are
    reasons = ["forced", "forced", "bonus", None, None, "forced", "bonus", "forced"]
    told = [event for event in events(generation) if isinstance(event, TextPiece)]
    assert reasons == [piece.reason for piece in told]


def test_a_draft_that_came_too_late_made_no_token() -> None:
    generation = opened(make_generation())
    verdict(generation, 20)
    draft(generation, 31, 32)
    verdict(generation, 31)
    assert [TextPiece(WORDS[31], "target", "alone")] == events(generation)[1:]


def test_the_last_piece_of_a_round_brings_the_figures_so_far() -> None:
    generation = opened(make_generation())
    generation.stream.pace.round_trip_seconds = 0.25
    verdict(generation, 20, now=12.0)
    draft(generation, 31, 32)
    verdict(generation, 40, accepted=2, now=12.5)
    first, *others, last = all_events(generation)
    assert [None, None] == [piece.so_far for piece in others if isinstance(piece, TextPiece)]
    told = [piece.so_far for piece in (first, last) if isinstance(piece, TextPiece)]
    assert [(1, 0, 1, 2.0, 0.25), (4, 2, 2, 2.5, 0.25)] == [
        (
            timings.output_tokens,
            timings.accepted_tokens,
            timings.num_verdicts,
            timings.total_seconds,
            timings.round_trip_seconds,
        )
        for timings in told
        if timings is not None
    ]


def test_the_last_event_says_how_it_ended() -> None:
    generation = opened(make_generation())
    verdict(generation, 20, reason="length")
    piece, finished = events(generation)
    assert TextPiece(WORDS[20], "target", "alone") == piece
    assert isinstance(finished, Finished)
    assert ("length", 77, "coupled", (20,)) == (
        finished.reason,
        finished.seed,
        finished.acceptance_mode,
        finished.token_ids,
    )
    assert StreamState.ENDED is generation.state


def test_what_may_begin_a_stop_string_is_held_back_until_it_is_certain() -> None:
    generation = opened(make_generation(stop=(WORDS[20] + "!",)))
    verdict(generation, 20)
    assert [] == events(generation)
    verdict(generation, 21)
    assert [TextPiece(WORDS[20] + WORDS[21], "target", "alone")] == events(generation)


def test_what_was_held_back_comes_with_the_end_as_far_as_it_counts() -> None:
    generation = opened(make_generation(stop=(WORDS[20] + "!",)))
    verdict(generation, 20, reason="cancelled", text_bytes=2)
    assert TextPiece(WORDS[20][:2], "target") == events(generation)[0]


def test_nothing_of_a_stop_string_is_given_out() -> None:
    generation = opened(make_generation(stop=(WORDS[21],)))
    verdict(generation, 20)
    verdict(generation, 21, reason="stop", text_bytes=len(WORDS[20]))
    piece, finished = events(generation)
    assert TextPiece(WORDS[20], "target", "alone") == piece
    assert isinstance(finished, Finished)


def test_text_goes_on_over_a_lost_link() -> None:
    generation = opened(make_generation(stop=(WORDS[20] + WORDS[21] + "!",)))
    verdict(generation, 20)
    opened(generation)
    verdict(generation, 21)
    verdict(generation, 22)
    assert [TextPiece("".join(WORDS[20:23]), "target", "alone")] == events(generation)


def test_a_refused_request_names_its_field() -> None:
    generation = make_generation()
    generation.open_message(2)
    generation.receive(Error(ErrorCode.REQUEST, "too long", 2, "messages"), 20, 11.0)
    (error,) = events(generation)
    assert isinstance(error, RequestRefused)
    assert ("too long", "messages") == (str(error), error.field)
    assert StreamState.ENDED is generation.state


def test_a_prompt_that_is_too_long_is_told_with_its_length() -> None:
    generation = make_generation()
    generation.open_message(2)
    refused = Error(
        ErrorCode.REQUEST, "too long", 2, "messages", prompt_tokens=9, most_prompt_tokens=7
    )
    generation.receive(refused, 20, 11.0)
    (error,) = events(generation)
    assert isinstance(error, PromptTooLong)
    assert ("messages", 9, 7) == (error.field, error.num_tokens, error.most_tokens)


def test_a_device_may_have_too_many_streams() -> None:
    generation = make_generation()
    generation.open_message(2)
    generation.receive(Error(ErrorCode.LIMIT, "the device has 4 streams already", 2), 20, 11.0)
    (error,) = events(generation)
    assert isinstance(error, TooManyStreams)
    assert "the device has 4 streams already" == str(error)


def test_clients_of_a_paused_board_are_told_that_there_is_no_verifier_for_them_now() -> None:
    generation = make_generation()
    generation.open_message(2)
    generation.receive(Error(ErrorCode.PAUSED, "the operator has paused it", 2), 20, 11.0)
    (error,) = events(generation)
    assert isinstance(error, VerifierAway)
    assert "the operator has paused it" == str(error)


def test_any_other_error_is_the_models() -> None:
    generation = opened(make_generation())
    generation.receive(Error(ErrorCode.MODEL, "the target model failed", 2), 20, 12.0)
    (error,) = events(generation)
    assert isinstance(error, ModelError)
    assert "the verifier ended the stream: the target model failed" == str(error)


def test_a_generation_may_fail_on_this_side() -> None:
    generation = opened(make_generation())
    away = VerifierAway("the verifier is gone")
    generation.fail(away)
    assert ([away], StreamState.ENDED) == (events(generation), generation.state)


@pytest.mark.parametrize(
    "message",
    [
        Verdict(2, 0, 0, b""),
        Verdict(2, 5, 0, b"", finish=Finish("length", 0)),
    ],
)
def test_a_verdict_before_the_answer_is_an_error(message: Verdict) -> None:
    generation = make_generation()
    generation.open_message(2)
    with pytest.raises(RemoteProtocolError, match="Verdict is not allowed while opening"):
        generation.receive(message, 20, 11.0)


def test_a_second_answer_is_an_error() -> None:
    generation = opened(make_generation())
    with pytest.raises(RemoteProtocolError, match="Opened is not allowed while running"):
        generation.receive(Opened(2, b"", 77, "coupled"), 20, 11.0)


def told_prompt(logprobs: bytes) -> ActiveGeneration:
    """One that asked for log-probabilities of its prompt, behind its first verdict."""
    generation = make_generation(tells_prompt=True, num_prompt_logprobs=0)
    opened(generation, num_prompt_logprobs=0)
    generation.receive(PromptLogprobs(2, logprobs), 20, now=11.5)
    verdict(generation, 20)
    return generation


def test_a_prompt_comes_with_what_the_target_thinks_of_it() -> None:
    scores = np.array([-0.5, -1.5], dtype="<f4").tobytes()
    piece = asyncio.run(told_prompt(scores).next_event())
    assert isinstance(piece, PromptPiece)
    assert [None, -0.5, -1.5] == [token.logprob for token in piece.logprobs]


@pytest.mark.parametrize("logprobs", [b"", bytes(4), bytes(12), b"\0\0\x80\x3f" * 2])
def test_what_cannot_be_thought_of_a_prompt_is_the_verifiers_fault(logprobs: bytes) -> None:
    with pytest.raises(ModelError, match="the verifier broke the protocol"):
        asyncio.run(told_prompt(logprobs).next_event())


def test_a_verdict_behind_the_last_one_is_an_error() -> None:
    generation = opened(make_generation())
    verdict(generation, 20, reason="end")
    with pytest.raises(RemoteProtocolError, match="Verdict is not allowed while ended"):
        verdict(generation, 21)


# --- what is counted ------------------------------------------------------------------------------


def test_counts_of_a_generation() -> None:
    generation = opened(make_generation(now=10.0), cached_prefix_tokens=2)
    verdict(generation, 20, now=12.0)
    draft(generation, 31, 32)
    draft(generation, 33, 34)
    verdict(generation, 40, accepted=1, now=13.0)  # 32, 33 and 34 are lost
    draft(generation, 51, 52)
    verdict(generation, 51, now=14.0)  # both were late, and 51 was right
    verdict(generation, 53, accepted=1, reason="length", now=15.0)
    assert timings(generation) == Timings(
        prompt_tokens=3,
        cached_prefix_tokens=2,
        output_tokens=6,
        drafted_tokens=6,
        accepted_tokens=2,
        rejected_tokens=3,
        num_verdicts=4,
        num_drafting_verdicts=2,
        seconds_to_first_token=2.0,
        total_seconds=5.0,
        wire_bytes=4 * 20 + 3 * 25,
        survived_tokens=3,
        rejections=1,
    )


def first_verdict(cached_prefix_tokens: int, position: int = 0) -> Verdict:
    tokens = pack_token_ids([20])
    return Verdict(2, position, 0, tokens, cached_prefix_tokens=cached_prefix_tokens)


def test_the_first_verdict_says_what_part_of_the_prompt_was_in_the_cache() -> None:
    generation = opened(make_generation())
    generation.receive(first_verdict(2), 20, 12.0)
    verdict(generation, 21, reason="end")
    assert 2 == timings(generation).cached_prefix_tokens


def test_no_more_of_the_prompt_was_in_the_cache_than_it_has() -> None:
    generation = opened(make_generation())
    generation.receive(first_verdict(4), 20, 12.0)
    verdict(generation, 21, reason="end")
    assert len(PROMPT) == timings(generation).cached_prefix_tokens


def test_what_is_found_when_a_stream_is_opened_again_behind_its_first_token_says_nothing() -> None:
    generation = opened(make_generation())
    generation.receive(first_verdict(1), 20, 12.0)
    opened(generation, cached_prefix_tokens=3)
    generation.receive(first_verdict(3, position=1), 20, 13.0)
    verdict(generation, 21, reason="end")
    assert 1 == timings(generation).cached_prefix_tokens


def test_what_is_found_counts_when_the_first_verdict_was_lost_with_its_link() -> None:
    generation = opened(make_generation())
    opened(generation, cached_prefix_tokens=2)
    verdict(generation, 20, 21, reason="end")
    assert 2 == timings(generation).cached_prefix_tokens


def test_a_generation_without_a_token_has_no_first_one() -> None:
    generation = opened(make_generation(now=10.0))
    verdict(generation, reason="cancelled", now=13.5)
    counted = timings(generation)
    assert (0, 3.5, 3.5) == (
        counted.output_tokens,
        counted.seconds_to_first_token,
        counted.total_seconds,
    )


def test_wide_token_ids_and_passes_are_counted_right() -> None:
    generation = opened(make_generation())
    generation.record_sent(Draft(2, 0, 0, pack_token_ids([70_000, 5])), 30, now=0.0)
    generation.record_sent(Draft(2, 0, 2, b""), 12, now=0.0)
    generation.record_sent(Ready(2), 9, now=0.0)
    verdict(generation, 20, reason="length")
    assert 2 == timings(generation).drafted_tokens


# --- after a restart of the agent -----------------------------------------------------------------


def resumed(stop: tuple[str, ...] = (), **told: Any) -> ActiveGeneration:
    """A generation that an agent before this one had begun, with the verifier's answer."""
    generation = ActiveGeneration(
        GenerationRequest(stream_id=7),
        scripted_drafter(MODEL),
        DraftSettings(
            row_entries=8, confidence_stop=0.0, prefill_chunk_tokens=16, context_tokens=100
        ),
        10.0,
        is_resumed=True,
    )
    assert Resume(channel=2, stream_id=7, position=0) == generation.open_message(2)
    message = Opened(2, pack_token_ids(PROMPT), seed=77, acceptance_mode="coupled", stop=stop)
    generation.receive(msgspec.structs.replace(message, **told), 30, now=11.0)
    return generation


def test_a_resumed_generation_begins_with_all_that_was_said() -> None:
    generation = resumed()
    verdict(generation, 20, 21, 22)
    verdict(generation, 23, reason="length")
    *pieces, finished = events(generation)
    assert [TextPiece(WORDS[i], "target", "alone") for i in (20, 21, 22, 23)] == pieces
    assert isinstance(finished, Finished)
    assert (20, 21, 22, 23) == finished.token_ids


def test_it_learns_from_the_verifier_what_had_been_asked() -> None:
    grammar = Grammar("regex", "a+")
    generation = resumed(
        stop=(WORDS[21] + "!",), sampling=GREEDY, max_tokens=9, draft_length=0, grammar=grammar
    )
    assert (GREEDY, False) == (generation.stream.sampling, generation.stream.drafts)
    verdict(generation, 20, 21)
    assert [TextPiece(WORDS[20], "target", "alone")] == events(
        generation
    )  # the other may be a stop string
    message = generation.open_message(3)
    assert isinstance(message, Open)
    assert grammar == message.grammar
    assert (7, PROMPT_BYTES, pack_token_ids([20, 21]), (WORDS[21] + "!",), 9, 0, 77) == (
        message.stream_id,
        message.prompt,
        message.committed,
        message.stop,
        message.max_tokens,
        message.draft_length,
        message.seed,
    )


def test_a_link_lost_before_the_answer_resumes_again() -> None:
    generation = ActiveGeneration(
        GenerationRequest(stream_id=7),
        scripted_drafter(MODEL),
        DraftSettings(
            row_entries=8, confidence_stop=0.0, prefill_chunk_tokens=16, context_tokens=100
        ),
        10.0,
        is_resumed=True,
    )
    assert [Resume(channel, 7) for channel in (0, 1)] == [
        generation.open_message(channel) for channel in (0, 1)
    ]


def test_a_stream_that_the_verifier_does_not_have_is_refused_by_its_id() -> None:
    generation = make_generation()
    generation.open_message(2)
    generation.receive(Error(ErrorCode.UNKNOWN_STREAM, "not here any more", 2), 20, 11.0)
    (error,) = events(generation)
    assert isinstance(error, RequestRefused)
    assert ("not here any more", "id") == (str(error), error.field)


def test_no_connection_draws_with_the_noise_of_an_earlier_one() -> None:
    """What became of the drafts before may have taught the scheduler."""
    generation = opened(make_generation(acceptance_mode="rejection"))
    salts = [generation.stream.salt]
    for channel in range(3):
        opened(generation, channel)
        salts.append(generation.stream.salt)
    salts += [resumed().stream.salt, resumed().stream.salt]
    assert 0 == salts[0]
    assert len(set(salts)) == len(salts)
    assert all(abs(one - other) > 1 << 24 for one, other in itertools.combinations(salts, 2))


def test_a_client_may_name_its_stream() -> None:
    message = make_generation(stream_id=99).open_message(0)
    assert 99 == message.stream_id


# --- calls and thoughts ---------------------------------------------------------------------------

FORM = (b"<end>", b"[TOOL_CALLS]", b"[ARGS]", b"[THINK]", b"[/THINK]", b"[OTHER]")
SAID = (b"add", b'{"a": ', b"1}", b"Hm", b"Yes")
SPECIAL_IDS = frozenset(range(len(FORM)))
TOOLS = b'[{"type":"function","function":{"name":"add"}}]'
APART = OutputReading(calls=True, reasoning=True)
MISTRAL = OutputFormat("mistral", "mistral")


def with_marks(output_format: OutputFormat = MISTRAL, **request: Any) -> ActiveGeneration:
    drafter = ScriptedDrafter(lambda _: np.zeros(len(FORM + SAID), np.float32), FORM + SAID)
    settings = DraftSettings(
        row_entries=8, confidence_stop=0.0, prefill_chunk_tokens=16, context_tokens=100
    )
    asked = GenerationRequest(text="x", sampling=GREEDY, **({"reading": APART} | request))
    generation = ActiveGeneration(asked, drafter, settings, 10.0)
    generation.learn_vocabulary(len(FORM + SAID), SPECIAL_IDS)
    message = Opened(2, pack_token_ids([1]), 7, "coupled", output_format=output_format)
    generation.open_message(2)
    generation.receive(message, 30, now=11.0)
    return generation


def said(generation: ActiveGeneration) -> list[tuple[str, str]]:
    return [(e.part, e.text) for e in events(generation) if isinstance(e, TextPiece)]


def test_calls_and_thoughts_are_told_apart_by_control_tokens_that_print_nothing() -> None:
    generation = with_marks()
    verdict(generation, 3, 9)
    assert [("reasoning", "Hm")] == said(generation)
    verdict(generation, 9, 4, 10, 5)
    assert [("reasoning", "Hm"), ("text", "Yes")] == said(generation)
    verdict(generation, 1, 6, 2, 7)
    assert [("call", "add"), ("arguments", '{"a": ')] == said(generation)
    verdict(generation, 8, 0, reason="end")
    finished = all_events(generation)
    assert [("arguments", "1}")] == [
        (event.part, event.text) for event in finished if isinstance(event, TextPiece)
    ]
    (end,) = [event for event in finished if isinstance(event, Finished)]
    assert 4 == end.timings.reasoning_tokens  # its marks, and two words


def test_what_waits_at_the_end_is_text() -> None:
    generation = with_marks()
    verdict(generation, 1, 6)
    assert [] == said(generation)
    verdict(generation, 0, reason="end")
    assert [("text", "[TOOL_CALLS]add")] == said(generation)


def test_without_a_wish_all_is_text_and_marks_print_nothing() -> None:
    generation = with_marks(reading=NOTHING_APART)
    verdict(generation, 3, 9, 4, 1, 6, 0, reason="end")
    assert [("text", "Hm"), ("text", "add")] == said(generation)


def test_tools_go_out_once_and_the_form_is_learned_once() -> None:
    generation = with_marks(tools=TOOLS)
    verdict(generation, 3)
    again = generation.open_message(3)
    assert isinstance(again, Open)
    assert b"" == again.tools
    generation.receive(Opened(3, b"", 7, "coupled"), 30, now=13.0)
    generation.receive(Verdict(3, 1, 0, pack_token_ids([9, 4, 10]), 4, 2), 20, 14.0)
    assert [("reasoning", "Hm"), ("text", "Yes")] == said(generation)


def test_a_verifier_that_shows_no_tools_is_too_old() -> None:
    with pytest.raises(RemoteProtocolError, match="it shows no tools to its target"):
        with_marks(OutputFormat(), tools=TOOLS)


def test_a_demand_goes_out_once_and_what_it_came_to_with_every_other_open() -> None:
    forced = Grammar("lark", 'start: "a"', "tool_choice")
    generation = make_generation(tools=TOOLS, must_call=("add",))
    message = generation.open_message(2)
    assert isinstance(message, Open)
    assert (("add",), None) == (message.must_call, message.grammar)
    prompt = pack_token_ids(PROMPT)
    answer = Opened(2, prompt, 7, "coupled", grammar=forced, output_format=OutputFormat("hermes"))
    generation.receive(answer, 30, now=11.0)
    again = generation.open_message(3)
    assert isinstance(again, Open)
    assert ((), b"", forced) == (again.must_call, again.tools, again.grammar)


def test_a_verifier_that_forces_no_call_is_too_old() -> None:
    generation = make_generation(tools=TOOLS, must_call=("add",))
    generation.open_message(2)
    answer = Opened(2, pack_token_ids(PROMPT), 7, "coupled", output_format=OutputFormat("hermes"))
    with pytest.raises(RemoteProtocolError, match="it does not follow all that was asked for"):
        generation.receive(answer, 30, now=11.0)
