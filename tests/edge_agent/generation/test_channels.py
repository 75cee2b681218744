"""Streams on the channels of a link that comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import Any

import pytest

import edge_agent.generation.channels
from edge_agent.generation import channels as channels_module
from edge_agent.generation.channels import Channels, VerifierTerms
from edge_agent.generation.generation import GenerationRequest
from edge_agent.generation.stream_session import StreamSession
from shared.errors import (
    GoodspeedError,
    LocalProtocolError,
    ModelError,
    RequestRefused,
    VerifierAway,
)
from shared.protocol.messages import (
    AgentMessage,
    Cancel,
    Draft,
    Error,
    Finish,
    Open,
    Opened,
    OpenPart,
    Ready,
    Resume,
    Verdict,
)
from shared.protocol.token_ids import pack_token_ids
from tests.support.ends.loopback import DRAFT_SETTINGS
from tests.support.ends.waiting import eventually

PROMPT = pack_token_ids([1, 2, 3])
TOO_LONG = "too long"
TERMS = VerifierTerms(max_streams=8, vocab_size=64, special_ids=frozenset(), context_tokens=512)


class WrittenLink:
    """A link whose messages are kept."""

    def __init__(self) -> None:
        self.takes_streams = True
        self.round_trip_seconds = 0.25
        self.sent: list[AgentMessage] = []
        self.waiting: tuple[Sequence[AgentMessage], Callable[[], bool]] = ((), lambda: False)

    def send(self, message: AgentMessage) -> int:
        if isinstance(message, Open) and message.text == TOO_LONG:
            raise LocalProtocolError("Open exceeds")
        self.sent.append(message)
        return 10

    def send_parts(
        self, messages: Sequence[AgentMessage], is_wanted: Callable[[], bool] = lambda: True
    ) -> int:
        self.waiting = (messages, is_wanted)
        return 10 * len(messages)

    def opened_channels(self) -> list[int]:
        return [message.channel for message in self.sent if isinstance(message, Open)]


class NotedStream(StreamSession):
    """Keeps what its client would be told."""

    def __init__(self, text: str = "x", draft_length: int | None = None) -> None:
        request = GenerationRequest(text=text, draft_length=draft_length)
        super().__init__(request, DRAFT_SETTINGS, vocab_size=64)
        self.errors: list[GoodspeedError] = []
        self.sent: list[tuple[type, int]] = []

    def record_sent(
        self, message: Open | Resume | Ready | Draft, num_bytes: int, now: float
    ) -> None:
        self.sent.append((type(message), num_bytes))

    def fail(self, error: GoodspeedError) -> None:
        super().fail(error)
        self.errors.append(error)


def on_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


@pytest.fixture
def one_in_each_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels_module, "OPENED_BYTES_IN_A_TURN", 10)


def linked(*streams: NotedStream) -> tuple[Channels[NotedStream], WrittenLink]:
    channels: Channels[NotedStream] = Channels("no verifier yet")
    link = WrittenLink()
    channels.attach(link, TERMS)
    for stream in streams:
        channels.add(stream)
    return channels, link


def opened(channel: int) -> Opened:
    return Opened(channel, PROMPT, seed=1, acceptance_mode="coupled")


@on_a_loop
async def test_every_stream_gets_a_channel_and_the_round_trip_of_the_link() -> None:
    first, second = NotedStream(), NotedStream()
    channels, link = linked(first, second)
    assert [0, 1] == link.opened_channels()
    assert (2, [(Open, 10)]) == (channels.num_streams, first.sent)
    assert 0.25 == second.stream.pace.round_trip_seconds


@on_a_loop
async def test_without_a_link_a_stream_waits_for_one() -> None:
    channels: Channels[NotedStream] = Channels("no verifier yet")
    stream = NotedStream()
    channels.add(stream)
    assert (True, 1, False) == (channels.has_parted, channels.num_streams, channels.is_linked)
    link = WrittenLink()
    channels.attach(link, TERMS)
    assert ([0], False) == (link.opened_channels(), channels.has_parted)
    channels.remove(stream)


@on_a_loop
async def test_a_link_that_takes_no_streams_lets_them_wait_for_the_next_one() -> None:
    channels, link = linked()
    link.takes_streams = False
    channels.add(NotedStream())
    assert ([], True) == (link.sent, channels.has_parted)
    channels.fail_all(VerifierAway("over"))


@on_a_loop
async def test_on_the_next_link_streams_that_run_are_opened_again_and_ended_ones_are_not() -> None:
    running, ended = NotedStream(), NotedStream()
    channels, _ = linked(ended, running)
    channels.receive(opened(1), 20)
    channels.receive(Verdict(1, 0, 0, pack_token_ids([7])), 20)
    channels.receive(Error("limit", "too many", 0), 20)
    channels.detach("the link broke")
    again = WrittenLink()
    channels.attach(again, TERMS)
    (message,) = again.sent
    assert isinstance(message, Open)
    assert (0, PROMPT, pack_token_ids([7])) == (message.channel, message.prompt, message.committed)
    assert running.stream.salt > 0


@on_a_loop
async def test_a_stream_that_fits_into_no_message_is_refused_alone() -> None:
    channels, link = linked()
    with pytest.raises(RequestRefused, match="the request cannot be sent: Open exceeds"):
        channels.add(NotedStream(TOO_LONG))
    channels.detach("the link broke")
    refused, kept = NotedStream(TOO_LONG), NotedStream()
    channels.add(refused)
    channels.add(kept)
    channels.attach(link, TERMS)
    assert [RequestRefused] == [type(error) for error in refused.errors]
    assert [] == kept.errors


@on_a_loop
async def test_a_long_prompt_is_queued_in_parts_as_long_as_its_client_waits() -> None:
    stream = NotedStream("x" * 100_000)
    channels, link = linked(stream)
    messages, is_wanted = link.waiting
    assert ([], True) == (link.sent, is_wanted())
    assert [Open, OpenPart, OpenPart, OpenPart] == [type(message) for message in messages]
    assert [(Open, 40)] == stream.sent
    channels.remove(stream)
    assert ([Cancel(0)], False) == (link.sent, is_wanted())


@on_a_loop
async def test_parts_of_a_prompt_that_was_refused_or_lost_its_link_are_not_wanted() -> None:
    refused, lost = NotedStream("x" * 100_000), NotedStream("x" * 100_000)
    channels, link = linked(refused)
    _, is_wanted = link.waiting
    channels.receive(Error("request", "too long", 0), 20)
    assert not is_wanted()
    channels.add(lost)
    _, is_wanted = link.waiting
    channels.detach("the link broke")
    assert not is_wanted()
    again = WrittenLink()
    channels.attach(again, TERMS)
    messages, is_wanted = again.waiting
    assert (4, True) == (len(messages), is_wanted())


@pytest.mark.usefixtures("one_in_each_turn")
@on_a_loop
async def test_long_streams_are_opened_again_one_in_each_turn_and_a_new_one_behind_them() -> None:
    streams = [NotedStream() for _ in range(3)]
    channels, _ = linked(*streams)
    channels.detach("the link broke")
    again = WrittenLink()
    channels.attach(again, TERMS)
    newcomer = NotedStream()
    channels.add(newcomer)
    turns = []
    for _ in range(4):
        turns.append((again.opened_channels(), len(newcomer.sent)))
        await asyncio.sleep(0)
    assert [([0], 0), ([0, 1], 0), ([0, 1, 2], 0), ([0, 1, 2, 3], 1)] == turns
    assert not channels.has_parted


@pytest.mark.usefixtures("one_in_each_turn")
@on_a_loop
async def test_a_link_that_is_lost_while_streams_are_opened_again_lets_the_others_wait() -> None:
    channels, _ = linked(NotedStream(), NotedStream())
    channels.detach("the link broke")
    lost, again = WrittenLink(), WrittenLink()
    channels.attach(lost, TERMS)
    channels.detach("it broke again")
    await asyncio.sleep(0)
    assert ([0], True) == (lost.opened_channels(), channels.has_parted)
    channels.attach(again, TERMS)
    await asyncio.sleep(0)
    assert ([0, 1], False) == (again.opened_channels(), channels.has_parted)
    channels.fail_all(VerifierAway("over"))


@on_a_loop
async def test_a_link_that_is_lost_before_the_prompt_was_told_opens_with_the_text_again() -> None:
    stream = NotedStream("once")
    channels, _ = linked(stream)
    message = Opened(0, PROMPT, seed=77, acceptance_mode="rejection", num_prompt_tokens=5)
    channels.receive(message, 20)
    channels.receive(Verdict(0, 0, 0, pack_token_ids([7])), 20)
    assert not stream.stream.take_ready(), "it cannot draft without the prompt"
    channels.detach("the link broke")
    again = WrittenLink()
    channels.attach(again, TERMS)
    (asked,) = again.sent
    assert isinstance(asked, Open)
    assert ("once", b"", pack_token_ids([7])) == (asked.text, asked.prompt, asked.committed)
    assert (77, "rejection") == (asked.seed, asked.acceptance_mode)
    channels.receive(opened(0), 20)
    assert (1, 2, 3) == stream.stream.prompt_ids


@on_a_loop
async def test_one_that_runs_is_cancelled_when_its_client_leaves_an_ended_one_is_not() -> None:
    running, ended = NotedStream(), NotedStream()
    channels, link = linked(running, ended)
    channels.receive(opened(1), 20)
    channels.receive(Verdict(1, 0, 0, b"", finish=Finish("length", 0)), 20)
    channels.remove(running)
    channels.remove(ended)
    assert [Cancel(0)] == [message for message in link.sent if isinstance(message, Cancel)]
    assert 0 == channels.num_streams
    assert channels.receive(opened(0), 20) is None  # it crossed the Cancel


@on_a_loop
async def test_a_wrong_message_ends_its_stream_alone() -> None:
    broken, other = NotedStream(), NotedStream()
    channels, link = linked(broken, other)
    channels.receive(opened(0), 20)
    assert channels.receive(Verdict(0, 5, 0, pack_token_ids([7])), 20) is broken
    (error,) = broken.errors
    assert isinstance(error, ModelError)
    assert "the verifier broke the protocol: verdict at 5, not at 0" == str(error)
    assert (Cancel(0), False) == (link.sent[-1], other.is_over)
    channels.remove(broken)
    assert 1 == link.sent.count(Cancel(0))


@on_a_loop
async def test_drafts_that_a_verdict_made_due_are_sent_and_counted() -> None:
    stream = NotedStream()
    channels, link = linked(stream)
    channels.receive(opened(0), 20)
    stream.stream.leave_slot()  # so that nothing but a pass can come
    channels.receive(Verdict(0, 0, 0, pack_token_ids([7]), window=2), 20)
    assert Draft(0, base=0, offset=1, tokens=b"") == link.sent[-1]
    assert (Draft, 10) == stream.sent[-1]


@on_a_loop
async def test_nothing_is_sent_for_a_stream_that_is_not_on_the_link() -> None:
    stream, stranger = NotedStream(), NotedStream()
    channels, link = linked(stream)
    stranger.stream.channel = 0
    channels.send(stranger.stream, Ready(0))
    channels.detach("the link broke")
    channels.send(stream.stream, Ready(0))
    assert [0] == link.opened_channels()
    assert 1 == len(link.sent)
    channels.remove(stream)


@on_a_loop
async def test_all_are_told_when_all_is_over() -> None:
    running, waiting = NotedStream(), NotedStream()
    channels, link = linked(running)
    link.takes_streams = False
    channels.add(waiting)
    away = VerifierAway("the agent is shutting down")
    channels.fail_all(away)
    assert ([away], [away], 0) == (running.errors, waiting.errors, channels.num_streams)


def with_short_patience(
    monkeypatch: pytest.MonkeyPatch, scenario: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Run it; a timer that fires for a stream that does not wait any more fails the test."""
    monkeypatch.setattr(edge_agent.generation.channels, "RESUME_SECONDS", 0.001)
    problems: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: problems.append(what))
        await scenario()

    asyncio.run(run())
    assert [] == problems


async def until_one_gives_up(channels: Channels[NotedStream], link: WrittenLink) -> None:
    """Until the patience is over that any stream before has begun."""
    link.takes_streams = False
    channels.attach(link, TERMS)
    channels.add(latest := NotedStream())
    await eventually(lambda: bool(latest.errors))


def test_a_stream_does_not_wait_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        stream = NotedStream()
        channels, _ = linked(stream)
        channels.detach("the link broke")
        channels.detach("nobody listens")
        await eventually(lambda: bool(stream.errors))
        assert ["nobody listens"] == [str(error) for error in stream.errors]
        assert 0 == channels.num_streams

    with_short_patience(monkeypatch, scenario)


def test_one_that_was_taken_up_again_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        stream = NotedStream()
        channels, link = linked(stream)
        channels.detach("the link broke")
        channels.attach(link, TERMS)
        await until_one_gives_up(channels, link)
        assert [] == stream.errors

    with_short_patience(monkeypatch, scenario)


def test_one_whose_client_left_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        stream = NotedStream()
        channels, link = linked(stream)
        channels.detach("the link broke")
        channels.remove(stream)
        await until_one_gives_up(channels, link)
        assert [] == stream.errors

    with_short_patience(monkeypatch, scenario)


def test_one_that_was_told_that_all_is_over_is_not_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        stream = NotedStream()
        channels, link = linked(stream)
        channels.detach("the link broke")
        channels.fail_all(VerifierAway("the agent is shutting down"))
        await until_one_gives_up(channels, link)
        assert ["the agent is shutting down"] == [str(error) for error in stream.errors]

    with_short_patience(monkeypatch, scenario)
