"""Any order of legal and illegal messages: each has the answer that the protocol foretells.

A state machine plays a board against a real DeviceConnection with rounds running behind it.  It
keeps its own, simpler idea of the session and knows from it what every message must lead to.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import numpy as np
from aiohttp import WSMsgType
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from shared.protocol.messages import (
    PROTOCOL_VERSION,
    Cancel,
    Draft,
    Error,
    ErrorCode,
    Goodbye,
    Hello,
    Open,
    Opened,
    Ready,
    Resume,
    Status,
    Verdict,
    Welcome,
)
from shared.protocol.token_ids import pack_token_ids, unpack_token_ids
from shared.speculation.sampling import GREEDY
from tests.support.ends.scripted import TARGET, VOCAB_SIZE, scripted_service
from tests.support.ends.wired_board import BOUNDLESS, WiredBoard
from tests.support.messages.fuzzing import ErrorRecords
from tests.support.messages.message_strategies import messages
from tests.support.messages.misbehaviour import certain
from tests.support.messages.mutations import Mutations
from verifier.server.device_limits import DeviceUsage
from verifier.target.round import Round
from verifier.target.scripted_tokenizer import ScriptedTokenizer

MAX_STREAMS, MAX_TOKENS = 3, 40
ASKED: dict[str, Any] = {"sampling": GREEDY, "max_tokens": MAX_TOKENS}
PROMPTS = ("a", "another prompt")


def greedy_ids(text: str) -> list[int]:
    """What the target alone says."""
    tokens = ScriptedTokenizer(VOCAB_SIZE).encode_text(text)
    num_prompt = len(tokens)
    for _ in range(MAX_TOKENS):
        tokens.append(int(np.argmax(TARGET.logits(tokens))))
    return tokens[num_prompt:]


GREEDY_IDS = {text: greedy_ids(text) for text in PROMPTS}


UNGREETED = messages.filter(lambda m: isinstance(m, Ready | Draft | Cancel | Status | Open))


class Heard:
    """One channel as the board has heard of it."""

    def __init__(self, text: str, name: int) -> None:
        self.text = text
        self.name = name
        self.is_resumed = False  # and its first verdict is still to come
        self.is_opened = False
        self.position = 0
        self.granted_end = 0
        self.drafted: dict[int, int] = {}  # position -> token, on the path from `base`
        self.base = 0
        self.ending: Verdict | Error | None = None


class Session(RuleBasedStateMachine):
    """A board that says whatever comes into its head."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.bugs = ErrorRecords()
        self.loop_errors: list[Any] = []
        self.runner.get_loop().set_exception_handler(
            lambda _, context: self.loop_errors.append(context)
        )
        self.runner.run(self._start())

    async def _start(self) -> None:
        logging.getLogger().addHandler(self.bugs)
        self.service = scripted_service(max_streams_per_device=MAX_STREAMS, context_tokens=64)
        self.round: Round | None = None  # that is running
        self.now = 0.0
        self.num_opened = 0
        self.usage = DeviceUsage(BOUNDLESS, 0.0)
        self.hello = Hello(PROTOCOL_VERSION, "0", "raw", VOCAB_SIZE, self.service.fingerprint, 4096)
        self.mutations = Mutations(1, self.hello)
        self.lost: dict[int, Heard] = {}  # streams of the connection before, by name
        await self._connect()
        await self._say(self.hello)

    async def _connect(self) -> None:
        self.board = WiredBoard(self.service, self.usage)
        self.is_greeted = False
        self.channels: dict[int, Heard] = {}
        self.next_channel = 0
        self.last_error: Error | None = None

    # --- the board's idea of it ----------------------------------------------------------------

    def listen(self) -> None:
        """Take in what the verifier has said; it must be possible at all."""
        for message in self.board.heard():
            assert self.last_error is None, "nothing comes after the error of a connection"
            match message:
                case Error(channel=None):
                    self.last_error = message
                case Error():
                    self._channel(message.channel or 0).ending = message
                case Opened():
                    channel = self._channel(message.channel)
                    assert not channel.is_opened
                    channel.is_opened = True
                case Verdict():
                    self._verdict(message)
                case _:
                    assert isinstance(message, Welcome)
                    assert not self.is_greeted
                    self.is_greeted = True

    def _channel(self, number: int) -> Heard:
        channel = self.channels[number]
        assert channel.ending is None, f"channel {number} has ended"
        return channel

    def _verdict(self, verdict: Verdict) -> None:
        channel = self._channel(verdict.channel)
        assert channel.is_opened
        assert channel.position == verdict.position
        own = unpack_token_ids(verdict.tokens, VOCAB_SIZE).tolist()
        start = verdict.position
        accepted = [channel.drafted[start + i] for i in range(verdict.num_accepted)]
        ids = [*accepted, *own]
        assert GREEDY_IDS[channel.text][start : start + len(ids)] == ids
        channel.position += len(ids)
        for i, token_id in enumerate(ids):
            if channel.drafted.get(start + i, token_id) != token_id:
                channel.base = start + i + 1
                channel.drafted.clear()
                break
        if channel.is_resumed:  # nothing that was drafted before counts
            channel.is_resumed = False
            channel.base = channel.position
        channel.granted_end = max(channel.granted_end, channel.position + verdict.window)
        if verdict.finish is not None:
            channel.ending = verdict

    async def _say(self, message: Any, kind: WSMsgType = WSMsgType.BINARY) -> bool:
        self.listen()
        goes_on = await self.board.say(message, kind)
        for _ in range(5):
            await asyncio.sleep(0)
        self.listen()
        return goes_on

    def say(self, message: Any, kind: WSMsgType = WSMsgType.BINARY) -> bool:
        return self.runner.run(self._say(message, kind))

    def is_refused(
        self,
        message: Any,
        sentence: str,
        code: ErrorCode = ErrorCode.PROTOCOL,
        kind: WSMsgType = WSMsgType.BINARY,
    ) -> None:
        """The connection ends with this sentence, and another one begins."""
        assert not self.say(message, kind)
        assert self.last_error is not None
        assert (code, sentence) == (self.last_error.code, self.last_error.sentence)
        self.come_back()

    def come_back(self, *, keeps_streams: bool = True) -> None:
        """Another connection, greeted."""
        self.runner.run(self.board.leave())
        channels = self.channels.values()
        self.lost = {c.name: c for c in channels if c.is_opened and keeps_streams}
        self.runner.run(self._connect())
        assert self.say(self.hello)
        assert self.is_greeted

    @property
    def running(self) -> list[int]:
        """Channels that were opened and have not ended, as far as the board knows."""
        return [n for n, c in self.channels.items() if c.is_opened and c.ending is None]

    @property
    def granted(self) -> list[int]:
        """Those of them that may draft."""
        open_channels = ((number, self.channels[number]) for number in self.running)
        return [number for number, c in open_channels if c.granted_end > c.position]

    # --- what it says --------------------------------------------------------------------------

    @rule(data=st.data(), way=st.sampled_from(("leave", "leave", "break", "greet", "resume")))
    def end_the_connection(self, data: Any, way: str) -> None:
        """One rule for all of it: each of several would come as often as every other rule."""
        match way:
            case "leave":
                self.leave(data.draw(st.sampled_from(("goodbye", "text", "cut", "cut"))))
            case "break":
                self.break_the_protocol(data)
            case "greet":
                self.come_without_a_greeting(data)
            case _:
                self.resume_what_never_was()

    def come_without_a_greeting(self, data: Any) -> None:
        message = data.draw(UNGREETED)
        version = data.draw(st.none() | st.sampled_from((1, 3, 9)))
        self.runner.run(self.board.leave())
        self.runner.run(self._connect())
        if version is None:
            self.is_refused(message, f"{type(message).__name__} is not allowed while greeting")
        else:
            sentence = f"agent speaks protocol {version}, verifier {PROTOCOL_VERSION}"
            self.is_refused(Hello(version), sentence, ErrorCode.VERSION)

    def break_the_protocol(self, data: Any) -> None:
        never = self.next_channel + data.draw(st.integers(0, 5))
        broken = b"\xc1" + self.mutations.broken(self.mutations.from_agent())
        ways = [
            (self.hello, "Hello is not allowed while open"),
            (Ready(never), f"channel {never} was never opened"),
            (Cancel(never), f"channel {never} was never opened"),
            (broken, "message is not valid MessagePack: FormatError"),
        ]
        if self.next_channel > 0:
            used = data.draw(st.integers(0, self.next_channel - 1))
            ways += [
                (Open(used, 1, text="x"), f"channel {used} was used before"),
                (Resume(used, 1), f"channel {used} was used before"),
            ]
        self.is_refused(*data.draw(st.sampled_from(ways)))

    def leave(self, way: str) -> None:
        if way == "text":
            self.is_refused(b"hello", "text frames are not allowed", kind=WSMsgType.TEXT)
        elif way == "goodbye":
            assert not self.say(Goodbye())
            assert self.last_error is None
            self.come_back(keeps_streams=False)
        else:
            self.come_back()

    @rule(text=st.sampled_from(PROMPTS), skips=st.integers(0, 2), lag=st.integers(0, 3))
    def open(self, text: str, skips: int, lag: int) -> None:
        number = self.next_channel + skips
        self.next_channel = number + 1
        self.num_opened += 1
        channel = self.channels[number] = Heard(text, name=self.num_opened)
        num_running = len(self.running)
        assert self.say(Open(number, channel.name, text=text, **ASKED))
        self.runner.run(self._answered(channel))
        assert channel.is_opened is (num_running < MAX_STREAMS)
        if lag < 3 and channel.ending is None:
            assert self.say(Ready(number))
            if self.round is None:
                self.some_rounds(lag)

    async def _answered(self, channel: Heard) -> None:
        """Wait until the prompt is tokenized, which takes a thread."""
        async with asyncio.timeout(10):
            while not channel.is_opened and channel.ending is None:
                await asyncio.sleep(0)
                self.listen()

    @precondition(lambda self: self.lost)
    @rule(data=st.data(), back=st.integers(0, 3))
    def resume(self, data: Any, back: int) -> None:
        """A stream of the connection before goes on, from any position that was heard of."""
        name = data.draw(st.sampled_from(sorted(self.lost)))
        before = self.lost.pop(name)
        number = self.next_channel
        self.next_channel += 1
        channel = self.channels[number] = Heard(before.text, name)
        # Its path begins there; drafts of an older one are dropped without a word.
        channel.base = channel.position = max(before.position - back, 0)
        channel.is_resumed = True
        num_running = len(self.running)
        assert self.say(Resume(number, name, channel.position))
        self.runner.run(self._answered(channel))
        if isinstance(channel.ending, Error):
            # Not more streams are kept than may be open, the finished ones among them.
            assert channel.ending.code in (ErrorCode.UNKNOWN_STREAM, ErrorCode.LIMIT)
        else:
            assert num_running < MAX_STREAMS
            assert channel.position >= before.position

    def resume_what_never_was(self) -> None:
        number = self.next_channel
        self.next_channel += 1
        channel = self.channels[number] = Heard("a", name=-1)
        assert self.say(Resume(number, (1 << 62) + number))
        assert isinstance(channel.ending, Error)
        assert channel.ending.code in (ErrorCode.UNKNOWN_STREAM, ErrorCode.LIMIT)

    @precondition(lambda self: self.granted)
    @rule(data=st.data(), count=st.integers(1, 4), wrong=st.integers(0, 3))
    def draft(self, data: Any, count: int, wrong: int) -> None:
        """Where both ends agree that the path goes on; it may be late all the same."""
        number = data.draw(st.sampled_from(self.granted))
        channel = self.channels[number]
        at = channel.base
        while at in channel.drafted:
            at += 1
        at = max(at, channel.position)
        for position in range(channel.base, at):  # a gap would be an error
            channel.drafted.setdefault(position, GREEDY_IDS[channel.text][position])
        start, end = channel.base, min(at + count, channel.granted_end, MAX_TOKENS)
        guess = [(token_id + (wrong == 1)) % VOCAB_SIZE for token_id in GREEDY_IDS[channel.text]]
        ids = [channel.drafted.get(place, guess[place]) for place in range(start, end)]
        channel.drafted.update(zip(range(start, end), ids, strict=True))
        assert self.say(Draft(number, channel.base, 0, pack_token_ids(ids)))
        if channel.ending is not None:
            assert isinstance(channel.ending, Verdict), channel.ending
        if self.round is None:
            self.some_rounds(data.draw(st.integers(0, 2)))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), way=st.sampled_from(("nonsense", "cancel", "nothing", "nothing")))
    def end_a_stream(self, data: Any, way: str) -> None:
        match way:
            case "nonsense":
                self.draft_nonsense(data)
            case "cancel":
                self.cancel(data)
            case _:
                self.say_what_changes_nothing(data)

    def draft_nonsense(self, data: Any) -> None:
        number = data.draw(st.sampled_from(self.running))
        channel = self.channels[number]
        wrong = data.draw(
            st.sampled_from(
                (
                    Draft(number, channel.base, 0, b"\x01"),
                    Draft(number, channel.base, 0, pack_token_ids([VOCAB_SIZE])),
                    Draft(number, MAX_TOKENS + 5, 0, pack_token_ids([1])),
                    Draft(number, channel.base, 0, pack_token_ids([1]), rows=certain(1)),
                    Draft(number, channel.base, 0, pack_token_ids([1] * 100)),
                )
            )
        )
        assert self.say(wrong)
        if not isinstance(channel.ending, Verdict):  # it may have come to its end before
            assert isinstance(channel.ending, Error)
            assert ErrorCode.PROTOCOL == channel.ending.code

    def cancel(self, data: Any) -> None:
        number = data.draw(st.sampled_from(sorted(self.channels)))
        was_running = number in self.running
        assert self.say(Cancel(number))
        if was_running and self.round is None:
            assert isinstance(self.channels[number].ending, Verdict)

    def say_what_changes_nothing(self, data: Any) -> None:
        ended = [number for number, channel in self.channels.items() if channel.ending]
        ways: list[tuple[Any, WSMsgType]] = [
            (Status(5), WSMsgType.BINARY),
            (b"x", WSMsgType.PING),
            (b"x", WSMsgType.PONG),
            *((Ready(number), WSMsgType.BINARY) for number in ended),
            *((Cancel(number), WSMsgType.BINARY) for number in ended),
            *((Draft(number, 9, 9, b"\1"), WSMsgType.BINARY) for number in ended),
        ]
        assert self.say(*data.draw(st.sampled_from(ways)))

    # --- what the verifier does ----------------------------------------------------------------

    @precondition(lambda self: self.running and self.round is None)
    @rule()
    def begin_a_round(self) -> None:
        self.now += 0.01
        self.round = self.service.planner.start_round(self.now)

    @precondition(lambda self: self.round is not None)
    @rule()
    def end_the_round(self) -> None:
        self.runner.run(self._end_round())

    async def _end_round(self) -> None:
        round_, self.round = self.round, None
        if round_ is not None:
            self.now += 0.01
            outcome = self.service.target.run(round_)
            results = self.service.planner.finish_round(round_, outcome, 0.01, self.now)
            self.service._deliver(results)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.listen()

    @precondition(lambda self: self.running and self.round is None)
    @rule(count=st.integers(1, 4))
    def some_rounds(self, count: int) -> None:
        for _ in range(count):
            self.begin_a_round()
            self.end_the_round()

    # --- what holds all the time ---------------------------------------------------------------

    @invariant()
    def nothing_went_wrong_unseen(self) -> None:
        assert [] == self.bugs.records
        assert [] == self.loop_errors
        assert sum(c.is_opened and c.ending is None for c in self.channels.values()) <= MAX_STREAMS
        self.service.planner.blocks.check_integrity()

    def teardown(self) -> None:
        async def end() -> None:
            await self.board.leave()
            await self._end_round()
            self.service.stop()

        self.runner.run(end())
        self.runner.close()
        logging.getLogger().removeHandler(self.bugs)
        blocks = self.service.planner.blocks
        assert blocks.num_blocks == blocks.num_free_blocks
        assert 0 == self.usage.num_queued_bytes
        assert [] == self.bugs.records
        assert [] == self.loop_errors


TestSession = Session.TestCase
TestSession.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
