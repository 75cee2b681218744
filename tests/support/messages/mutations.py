"""Messages as nobody should send them: legal ones, changed in one place or several, by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import numpy as np

from shared.protocol.draft_packing import pack_rows
from shared.protocol.fingerprint import Difference
from shared.protocol.messages import (
    MAX_63_BITS,
    MAX_DRAFT_TOKENS,
    MAX_POSITION,
    PROTOCOL_VERSION,
    AgentMessage,
    AssignedDraft,
    Assignment,
    Cancel,
    ChatMessage,
    Draft,
    DraftHeld,
    Error,
    Finish,
    GoingAway,
    Goodbye,
    Hello,
    Notice,
    Open,
    Opened,
    OpenPart,
    PromptLogprobs,
    PromptPart,
    RatedDraft,
    Ready,
    Resume,
    Status,
    ToolCall,
    Verdict,
    VerifierMessage,
    Welcome,
)
from shared.protocol.token_ids import pack_rated_ids, pack_token_ids
from shared.speculation.sparse_row import SparseRow
from tests.support.messages.request_fields import RequestFields

RARELY = 0.03  # how often something ends a connection
INTEGERS = (
    *(0, 1, 2, 3, 4, 7, 8, 64, 127, 128, 129, 255, 256, 1024, 1025, 65_535, 65_536),
    *(MAX_POSITION, MAX_POSITION + 1, (1 << 31), (1 << 32) - 1, 1 << 32, 1 << 40),
    *((1 << 63) - 1, 1 << 63, (1 << 64) - 1, -1, -128, -(1 << 31), -(1 << 63)),
)
# What the verifier of the fuzzers assigns to a board that takes drafts.
ASSIGNED = AssignedDraft("wren", 9, bytes(range(32)))
FLOATS = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 5e-324, 1e308, -1.0, 0.5, 100.1)
# Heads of arrays, maps, strings, bytes and extensions that promise far more than there is.
HEADS = (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc1")
HEADS += (b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01", b"\xd6\xff\0\0\0\0", b"\x81\1\2")


def certain_rows(token_ids: list[int]) -> bytes:
    """Rows of a board that is quite sure of these tokens."""
    row = np.array([9], dtype=np.uint16)
    ids = [np.array([token_id], dtype=np.uint32) for token_id in token_ids]
    return pack_rows(tuple(SparseRow(token_ids=one, weights=row) for one in ids))


class Mutations:
    """An endless source of messages, legal and broken; the same for the same seed."""

    def __init__(self, seed: int, hello: Hello) -> None:
        self.random = random.Random(seed)
        self.fields = RequestFields(self.random)
        self.asked: dict[int, dict[str, Any]] = {}  # on each channel, that Opened must say again
        self.num_channels = 0  # that were opened on this connection
        self.positions: dict[int, int] = {}  # committed tokens of the channels that are open
        self._hello = hello
        self._part_number = 0  # of the latest OpenPart

    def begin(self) -> None:
        """Another connection: no channel is open."""
        self.num_channels = 0
        self.positions.clear()
        self.asked.clear()

    # --- legal, each by itself -----------------------------------------------------------------

    def hello(self) -> Hello:
        """What a connection begins with; any of its fields may be at its limits."""
        pick = self.random
        return msgspec.structs.replace(
            self._hello,
            agent_version=pick.choice(("0", "", "\x1b[2J\n", "s" * 200)),
            draft_model=pick.choice(("raw", "", "\u202e<3>x\n")),
            context_tokens=pick.choice((256, 0, (1 << 32) - 1)),
            draft_microseconds=pick.choice((0, 1, (1 << 40) - 1)),
            max_streams=pick.choice((1, 4096)),
            instance_id=pick.choice((0, 1, MAX_63_BITS)),
            takes_notices=pick.random() < 0.5,
            draft_bytes=pick.choice((0, 1, MAX_63_BITS)),
            takes_drafts=pick.random() < 0.7,
        )

    def from_agent(self) -> AgentMessage:
        """A message that an agent might send at some time, most of them now."""
        pick = self.random
        if not self.num_channels or (not self.positions and pick.random() < 0.5):
            return self._open()
        makers: tuple[Callable[[], AgentMessage], ...] = (
            *(self._open, self._draft, self._draft, self._draft, self._draft),
            *(self._open_part, self._open_part),
            *(lambda: Ready(self._channel()), lambda: Cancel(self._channel())),
            lambda: Status(self.random.randrange(1 << 20), self.fields.health()),
            self._draft_held,
            lambda: Ready(self._channel(), pick.randrange(9)),
            lambda: Resume(self._next_channel(), pick.randrange(4), pick.randrange(9)),
        )
        return Goodbye() if pick.random() < RARELY else pick.choice(makers)()

    def from_verifier(self) -> VerifierMessage:
        """A message that a verifier might send at some time."""
        pick = self.random
        makers: tuple[Callable[[], VerifierMessage], ...] = (
            lambda: self.opened(self._channel()),
            lambda: PromptPart(self._channel(), pick.choice((0, 3, 9)), self._token_ids(3)),
            self._prompt_logprobs,
            *(self._verdict,) * 8,
            lambda: Error("limit", "no", self._channel()),
        )
        rare: tuple[VerifierMessage, ...] = (
            Welcome(PROTOCOL_VERSION, "target", 64, 1, 4096, 8, self._special_ids(), *self._two()),
            *(Error("limit", "no"), Error("version", "no"), GoingAway(2.0), Notice("paused")),
            Error("vocabulary", "no", difference=self._difference()),
            Assignment((ASSIGNED, AssignedDraft("tit", 9, pick.randbytes(32))), (0, 1, 4)),
            Error("request", "no", self._channel(), "prompt", None, 9, pick.choice((0, 7))),
        )
        return pick.choice(rare) if pick.random() < RARELY else pick.choice(makers)()

    def _two(self) -> tuple[bool, bool]:
        return self.random.random() < 0.5, self.random.random() < 0.5

    def _special_ids(self) -> bytes:
        return self.random.randbytes(self.random.randrange(9))

    def _difference(self) -> Difference:
        pick = self.random
        block = pick.choice((0, 1, -1, 1 << 40))
        token_bytes = tuple(pick.randbytes(2) for _ in range(pick.randrange(3)))
        return Difference(block, token_bytes)

    def opened(self, channel: int) -> Opened:
        """What a verifier answers to Open."""
        num_prompt_tokens = self.random.choice((0, 0, 0, 9, 12))
        return Opened(
            channel,
            self._token_ids(9),
            7,
            self._mode(),
            num_prompt_tokens=num_prompt_tokens,
            **self._asked_on(channel),
            output_format=self.fields.output_format(),
            **self.fields.of_opened(),
        )

    def _asked_on(self, channel: int) -> dict[str, Any]:
        is_other = channel not in self.asked or self.random.random() < RARELY
        return self.fields.of_generation() if is_other else self.asked[channel]

    def _open(self) -> Open:
        pick = self.random
        return Open(
            channel=self._next_channel(),
            stream_id=pick.randrange(4),
            messages=(self.fields.turn(),) * pick.randrange(2),
            text="a prompt" * pick.randrange(3),
            prompt=self._token_ids(pick.randrange(4)),
            committed=self._token_ids(pick.randrange(3)),
            sampling=self.fields.sampling(),
            seed=pick.choice((None, 5)),
            stop=("x",) * pick.randrange(2),
            max_tokens=pick.choice((None, 1, 9)),
            acceptance_mode=self._mode(),
            draft_length=pick.choice((None, 0, 4)),
            num_prompt_tokens=pick.choice((0, 2, 4)),
            goes_on=pick.random() < 0.2,
            tools=pick.choice((b"", b"[", b"[]", b'[{"type":"function"}]')),
            **self.fields.of_open(),
        )

    def _open_part(self) -> OpenPart:
        pick = self.random
        self._part_number = pick.choice((1, self._part_number + 1))
        calls = (ToolCall("c", pick.choice(("", "f")), "{}"),) * pick.randrange(2)
        return OpenPart(
            channel=pick.choice((self._channel(), max(self.num_channels - 1, 0))),
            number=self._part_number,
            messages=(ChatMessage(pick.choice(("", "user")), "more", "hm", calls),)
            * pick.randrange(2),
            text="more" * pick.randrange(2),
            prompt=self._token_ids(pick.randrange(4)),
            committed=self._token_ids(pick.randrange(3)),
            goes_on=pick.random() < 0.5,
            tools=b"[" * pick.randrange(2),
        )

    def _draft_held(self) -> DraftHeld:
        pick = self.random
        sha256 = pick.choice((ASSIGNED.sha256, pick.randbytes(32)))
        because = pick.choice(("", "no room\n<0>forged"))
        return DraftHeld(sha256, pick.randrange(9), pick.randrange(1 << 20), because)

    def _draft(self) -> Draft:
        pick = self.random
        channel = self._channel()
        position = self.positions.get(channel, 0) + pick.choice((0, 0, 0, 1, 2, -1))
        base = max(pick.choice((0, position, position - 1)), 0)
        ids = [pick.randrange(64) for _ in range(pick.randrange(5))]
        rows = pick.choice((b"", b"", certain_rows(ids), pick.randbytes(pick.randrange(12))))
        offset, milliseconds = max(position - base, 0), pick.randrange(99)
        if pick.random() < 0.3:
            tokens = pick.choice((pack_rated_ids(ids, bytes(len(ids))), pick.randbytes(5)))
            return RatedDraft(channel, base, offset, tokens, milliseconds)
        return Draft(channel, base, offset, pack_token_ids(ids), milliseconds, rows)

    def _verdict(self) -> Verdict:
        pick = self.random
        channel = self._channel()
        finish = Finish("stop", pick.randrange(9)) if pick.random() < RARELY else None
        position = self.positions.get(channel, 0) + (pick.random() < RARELY)
        num_accepted = pick.choice((0, 0, 0, 1, 2))
        num_tokens = pick.randrange(4)
        tokens = self._token_ids(num_tokens)
        window, draft_length = pick.choice((0, 4, 17)), pick.choice((0, 2, 5))
        num_others = self.asked.get(channel, {}).get("num_logprobs")
        logprobs = self.fields.logprobs(num_accepted + num_tokens, num_others)
        more = (pick.choice((0, 0, 0, 9)), logprobs)
        granted = (window, draft_length, finish, *more, pick.choice((0, 0, 0, 1, 4)))
        rest = (pick.choice((0, 0, 1, 255)), pick.random() < 0.2)
        return Verdict(channel, position, num_accepted, tokens, *granted, *rest)

    def _prompt_logprobs(self) -> PromptLogprobs:
        channel = self._channel()
        num_others = self.asked.get(channel, {}).get("num_prompt_logprobs")
        return PromptLogprobs(channel, self.fields.logprobs(self.random.randrange(4), num_others))

    def _channel(self) -> int:
        chance = self.random.random()
        if chance < RARELY:
            return self.random.randrange(1 << 32)
        if self.positions and chance < 0.85:
            return self.random.choice(tuple(self.positions))
        return self.random.randrange(max(self.num_channels, 1))

    def _next_channel(self) -> int:
        if self.random.random() < RARELY:
            return self.random.randrange(self.num_channels + 2)
        self.num_channels += 1
        return self.num_channels - 1

    def _mode(self) -> Any:
        return self.random.choice(("rejection", "coupled"))

    def _token_ids(self, count: int) -> bytes:
        return pack_token_ids([self.random.randrange(64) for _ in range(count)])

    # --- broken --------------------------------------------------------------------------------

    def broken(self, message: AgentMessage | VerifierMessage) -> bytes:
        """The message with some of its values or bytes changed; by chance it may still be legal."""
        tree: list[Any] = msgspec.to_builtins(message, builtin_types=(bytes,))
        for _ in range(self.random.choice((0, 1, 1, 1, 2, 5))):
            self._change(tree)
        packed: bytes = msgpack.packb(tree)
        for _ in range(self.random.choice((0, 0, 0, 1, 1, 3))):
            packed = self._scramble(packed)
        return packed

    def _change(self, tree: list[Any]) -> None:
        """Change one place of a list, or of a list in it."""
        inner = [value for value in tree if isinstance(value, list)]
        if inner and self.random.random() < 0.4:
            self._change(self.random.choice(inner))
            return
        place = self.random.randrange(len(tree) + 1)
        match self.random.randrange(6):
            case 0:
                tree.insert(place, self._value())
            case 1:
                del tree[place:]
            case 2:
                del tree[place : place + 1]
            case 3 if tree:
                tree[place - 1], tree[0] = tree[0], tree[place - 1]
            case _ if tree:
                tree[place - 1] = self._value(tree[place - 1])

    def _value(self, old: Any = None) -> Any:
        """Any value that MessagePack has, also deep and long ones."""
        pick = self.random
        nested: Any = 7
        for _ in range(pick.choice((1, 2, 60, 600))):
            nested = [nested]
        choices: tuple[Any, ...] = (
            *(None, True, False, "", b"", [], {}, {1: 2}, {"a": []}, nested, [[]] * 9),
            *(pick.choice(INTEGERS), pick.choice(INTEGERS), pick.choice(FLOATS)),
            *("s" * pick.choice((1, 33, 201, 2001, 70_000)), "\0", "\u202e", str(old)[:99]),
            *(bytes(pick.choice((1, 2, 3, 5, 70_000))), pick.randbytes(pick.randrange(40))),
            *([0] * pick.choice((1, 16, 17, 1025)), ["user", "x"], [["user", "x"]]),
            msgpack.ExtType(pick.randrange(128), bytes(pick.randrange(3))),
            MAX_DRAFT_TOKENS + 1,
        )
        return pick.choice(choices)

    def _scramble(self, packed: bytes) -> bytes:
        pick = self.random
        place = pick.randrange(len(packed) + 1)
        match pick.randrange(7):
            case 0:
                return packed[:place]
            case 1:
                return packed[place:]
            case 2:
                return packed[:place] + pick.randbytes(pick.randrange(1, 5)) + packed[place:]
            case 3:
                return packed[:place] + pick.choice(HEADS) + packed[place:]
            case 4:
                return b"\x91" * pick.choice((1, 3, 600, 100_000)) + packed
            case 5:
                return packed + packed
            case _:
                flipped = bytes(byte ^ 1 << pick.randrange(8) for byte in packed[place : place + 1])
                return packed[:place] + flipped + packed[place + 1 :]
