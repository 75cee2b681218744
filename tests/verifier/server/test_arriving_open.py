"""Prompts that come in parts: read as they come where that is exact, bounded, and given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shared.protocol.messages import (
    PART_BYTES,
    PROTOCOL_VERSION,
    Cancel,
    ChatMessage,
    Error,
    ErrorCode,
    Finish,
    Hello,
    Open,
    Opened,
    OpenPart,
    Verdict,
)
from shared.protocol.prompt_parts import cut_open
from shared.protocol.token_ids import pack_token_ids, unpack_token_ids
from shared.speculation.sampling import GREEDY
from tests.support.ends.scripted import VOCAB_SIZE, scripted_service
from tests.support.ends.waiting import eventually
from tests.support.ends.wired_board import BOUNDLESS, WiredBoard
from verifier.engine.service import VerifierService
from verifier.server import arriving_open
from verifier.server.device_limits import DeviceUsage

IDS = [1 + i % 60 for i in range(30_000)]
ASKED = Open(0, 7, prompt=pack_token_ids(IDS), sampling=GREEDY, max_tokens=5)
CHAT = Open(0, 7, (ChatMessage("user", "ab" * 30_000),), sampling=GREEDY, max_tokens=5)


class Talk:
    """One greeted board, and all that it heard."""

    def __init__(self, board: WiredBoard, service: VerifierService) -> None:
        self.board = board
        self.service = service
        self._heard: list[Any] = []

    @property
    def heard(self) -> list[Any]:
        self._heard += self.board.heard()
        return self._heard

    @property
    def token_ids(self) -> list[int]:
        verdicts = [m for m in self.heard if isinstance(m, Verdict)]
        return [i for v in verdicts for i in unpack_token_ids(v.tokens, VOCAB_SIZE).tolist()]

    @property
    def errors(self) -> list[Error]:
        return [message for message in self.heard if isinstance(message, Error)]

    @property
    def is_finished(self) -> bool:
        return any(isinstance(m, Verdict) and m.finish is not None for m in self.heard)

    @property
    def num_read(self) -> int:
        """Tokens that the target has read of all streams."""
        return sum(s.num_cached_tokens for s in self.service.planner.streams.values())

    async def say(self, *messages: Any) -> None:
        for message in messages:
            assert await self.board.say(message)


def talk(scenario: Callable[[Talk], Awaitable[None]]) -> Talk:
    """Run a scenario; nothing may be left of its streams."""

    async def run() -> Talk:
        service = scripted_service(context_tokens=1 << 16, max_streams_per_device=4)
        usage = DeviceUsage(BOUNDLESS, asyncio.get_running_loop().time())
        rounds = asyncio.create_task(service.run())
        one = Talk(WiredBoard(service, usage), service)
        await one.say(Hello(PROTOCOL_VERSION, "0", "raw", VOCAB_SIZE, service.fingerprint, 256))
        try:
            await scenario(one)
        finally:
            assert isinstance(one.heard, list)
            await one.board.leave()
            service.stop()
            await rounds
        blocks = service.planner.blocks
        blocks.check_integrity()
        assert blocks.num_blocks == blocks.num_free_blocks
        return one

    return asyncio.run(run())


async def until_finished(one: Talk) -> None:
    await eventually(lambda: one.is_finished, 30)


def whole(message: Open) -> list[int]:
    """What comes of a message that is not cut."""

    async def scenario(one: Talk) -> None:
        await one.say(message)
        await until_finished(one)

    return talk(scenario).token_ids


@pytest.mark.parametrize("message", [ASKED, CHAT], ids=["ids", "chat"])
def test_a_prompt_in_parts_makes_the_same_text_as_in_one(message: Open) -> None:
    async def scenario(one: Talk) -> None:
        await one.say(*cut_open(message))
        await until_finished(one)

    assert len(cut_open(message)) > 1
    one = talk(scenario)
    assert whole(message) == one.token_ids
    assert 1 == sum(isinstance(m, Opened) for m in one.heard)


def test_ids_are_read_before_the_last_part_is_there() -> None:
    async def scenario(one: Talk) -> None:
        first, *rest = cut_open(ASKED)
        await one.say(first)
        num_first = len(unpack_token_ids(first.prompt, VOCAB_SIZE))
        await eventually(lambda: one.num_read == num_first - 1, 30)
        assert num_first < len(IDS)
        assert [] == [m for m in one.heard if isinstance(m, Opened | Verdict)]
        await one.say(*rest)
        await until_finished(one)

    assert whole(ASKED) == talk(scenario).token_ids


def test_what_was_committed_before_goes_on_behind_the_last_part() -> None:
    text = whole(ASKED)
    again = Open(
        *(0, 7),
        prompt=ASKED.prompt,
        committed=pack_token_ids(text[:3]),
        sampling=GREEDY,
        max_tokens=5,
    )

    async def scenario(one: Talk) -> None:
        *most, last = cut_open(again)
        await one.say(*most)
        await asyncio.sleep(0.05)
        assert not one.token_ids, "nothing is said before it is known what was said before"
        await one.say(last)
        await until_finished(one)

    assert text[3:] == talk(scenario).token_ids


def test_a_whole_prompt_whose_committed_tokens_still_come_says_nothing_yet() -> None:
    first = Open(
        *(0, 7), prompt=pack_token_ids([1, 2, 3]), sampling=GREEDY, max_tokens=5, goes_on=True
    )
    whole_text = whole(Open(0, 7, prompt=pack_token_ids([1, 2, 3]), sampling=GREEDY, max_tokens=5))

    async def scenario(one: Talk) -> None:
        await one.say(first)
        await eventually(lambda: one.num_read == 2)
        assert not one.token_ids
        await one.say(OpenPart(0, 1, committed=pack_token_ids(whole_text[:1]), goes_on=True))
        await eventually(lambda: one.num_read == 3)
        assert not one.token_ids
        await one.say(OpenPart(0, 2, committed=pack_token_ids(whole_text[1:3])))
        await until_finished(one)

    assert whole_text[3:] == talk(scenario).token_ids


def test_more_committed_tokens_than_the_stream_can_have_are_refused_with_their_part() -> None:
    first = Open(0, 7, prompt=pack_token_ids([1]), sampling=GREEDY, max_tokens=5, goes_on=True)

    async def scenario(one: Talk) -> None:
        parts = [OpenPart(0, i, committed=pack_token_ids([9] * 4), goes_on=True) for i in (1, 2)]
        await one.say(first, *parts)
        sentence = "8 committed tokens go beyond the end of the stream at 5"
        assert [Error(ErrorCode.REQUEST, sentence, 0, "committed")] == one.errors
        await one.say(Open(1, 8, text="x", max_tokens=1))
        await until_finished(one)

    talk(scenario)


def test_the_last_part_may_come_while_all_before_it_was_read() -> None:
    """And bring nothing more: the prompt's last token is still to be read."""
    asked = Open(0, 7, prompt=pack_token_ids([1, 2, 3]), sampling=GREEDY, max_tokens=5)
    first = Open(*(0, 7), prompt=asked.prompt, sampling=GREEDY, max_tokens=5, goes_on=True)

    async def scenario(one: Talk) -> None:
        await one.say(first)
        await eventually(lambda: one.num_read == 2)
        await one.say(OpenPart(0, 1))
        await until_finished(one)

    assert whole(asked) == talk(scenario).token_ids


@pytest.mark.parametrize(
    ("part", "error"),
    [
        (OpenPart(0, 2), Error("protocol", "part 2 came instead of 1", 0)),
        (OpenPart(0, 1), Error("protocol", "the prompt lacks 19078 tokens", 0)),
        (
            OpenPart(0, 1, prompt=pack_token_ids([1] * 30_000), goes_on=True),
            Error("protocol", "30000 tokens came for 19078 of a prompt", 0),
        ),
        (
            OpenPart(0, 1, prompt=pack_token_ids([999]), goes_on=True),
            Error("protocol", "token id 999 is outside the vocabulary of 64", 0),
        ),
        (
            OpenPart(0, 1, committed=pack_token_ids([1]), goes_on=True),
            Error("protocol", "the prompt lacks 19078 tokens", 0),
        ),
        (
            OpenPart(0, 1, committed=pack_token_ids([1] * 20_000), goes_on=True),
            Error("protocol", f"40000 bytes of ids in a part exceed {PART_BYTES}", 0),
        ),
    ],
)
def test_a_wrong_part_ends_its_stream_alone(part: OpenPart, error: Error) -> None:
    async def scenario(one: Talk) -> None:
        await one.say(cut_open(ASKED)[0], part, *cut_open(ASKED)[1:])
        assert [error] == one.errors
        await one.say(Open(1, 8, text="x", max_tokens=1))
        await until_finished(one)

    talk(scenario)


def test_a_prompt_that_cannot_fit_is_refused_with_its_first_part() -> None:
    async def scenario(one: Talk) -> None:
        await one.say(*cut_open(Open(0, 7, prompt=pack_token_ids([1] * (1 << 16)))))
        sentence = "prompt of 65536 tokens exceeds 65535 (target.context_tokens - 1)"
        expected = Error(ErrorCode.REQUEST, sentence, 0, "prompt", None, 65536, 65535)
        assert [expected] == one.errors

    talk(scenario)


def test_one_prompt_of_a_connection_is_on_its_way_at_a_time() -> None:
    async def scenario(one: Talk) -> None:
        first, *rest = cut_open(CHAT)
        await one.say(first, Open(1, 8, text="x", goes_on=True))
        sentence = "another prompt of this connection is still on its way"
        assert [Error(ErrorCode.LIMIT, sentence, 1)] == one.errors
        await one.say(*rest)
        await until_finished(one)

    talk(scenario)


@pytest.mark.parametrize("message", [ASKED, CHAT], ids=["ids", "chat"])
def test_a_cancelled_prompt_makes_room_for_the_next(message: Open) -> None:
    async def scenario(one: Talk) -> None:
        await one.say(cut_open(message)[0], Cancel(0))
        await eventually(lambda: one.is_finished)
        assert Verdict(0, 0, 0, b"", finish=Finish("cancelled", 0)) == one.heard[-1]
        await one.say(Open(1, 8, text="x", goes_on=True), OpenPart(1, 1, text="y"))
        await eventually(lambda: isinstance(one.heard[-1], Verdict) and one.heard[-1].channel == 1)

    talk(scenario)


@pytest.mark.parametrize("message", [ASKED, CHAT], ids=["ids", "chat"])
def test_a_lost_link_leaves_nothing_of_a_prompt_that_was_on_its_way(message: Open) -> None:
    async def scenario(one: Talk) -> None:
        await one.say(cut_open(message)[0])
        await asyncio.sleep(0.05)

    assert 0 == talk(scenario).service.device("board").kept.num_open


@pytest.mark.parametrize("message", [ASKED, CHAT], ids=["ids", "chat"])
def test_a_prompt_whose_rest_does_not_come_is_given_up(
    message: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arriving_open, "PART_SECONDS", 0.05)

    async def scenario(one: Talk) -> None:
        await one.say(cut_open(message)[0])
        await eventually(lambda: bool(one.errors))
        assert [(ErrorCode.LIMIT, 0)] == [(e.code, e.channel) for e in one.errors]
        await one.say(*cut_open(message)[1:])  # too late: ignored
        await eventually(lambda: not one.service.planner.streams)

    talk(scenario)


def test_all_parts_together_have_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving_open, "ALL_PARTS_SECONDS", 0.1)

    async def scenario(one: Talk) -> None:
        await one.say(Open(0, 7, text="x", goes_on=True))
        number = 0
        async with asyncio.timeout(10):
            while not one.errors:
                number += 1
                await one.say(OpenPart(0, number, text="x", goes_on=True))
                await asyncio.sleep(0.005)

    talk(scenario)


def test_parts_are_as_long_as_they_say() -> None:
    assert all(len(part.prompt) <= PART_BYTES for part in cut_open(ASKED))
