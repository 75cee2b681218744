"""Fuzzed messages, a small part of `python -m tests.benchmarks.fuzz_messages`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any, get_args

import msgspec
import pytest
from aiohttp import WSMessage, WSMsgType

from edge_agent.draft_model.shared_vocabulary import SharedVocabulary
from edge_agent.link.link import Link
from shared.errors import LinkError, RemoteProtocolError
from shared.protocol.codec import encode
from shared.protocol.messages import (
    PROTOCOL_VERSION,
    AgentMessage,
    Hello,
    Open,
    RatedDraft,
    VerifierMessage,
    Welcome,
)
from tests.support.ends.scripted import board
from tests.support.messages.fuzzing import fuzz_agent, fuzz_verifier
from tests.support.messages.mutations import Mutations

NUM_MESSAGES = 3000


class ScriptedSession:
    """Stands for an aiohttp.ClientSession whose only websocket brings the given frames."""

    def __init__(self, frames: Iterable[bytes]) -> None:
        self._frames = iter(frames)

    async def ws_connect(self, *_: object, **__: object) -> ScriptedSession:
        return self

    def get_extra_info(self, _name: str) -> None:
        """It has no socket."""

    async def receive(self) -> WSMessage:
        packed = next(self._frames, None)
        kind = WSMsgType.CLOSED if packed is None else WSMsgType.BINARY
        return WSMessage(kind, packed, None)

    async def send_bytes(self, _packed: bytes) -> None:
        """Nobody reads it."""

    async def close(self) -> None:
        """It is."""


@pytest.mark.parametrize("seed", [1, 2])
def test_a_verifier_answers_or_ignores_whatever_is_said(seed: int) -> None:
    outcomes = asyncio.run(fuzz_verifier(NUM_MESSAGES, seed))
    assert NUM_MESSAGES == outcomes.total()
    assert {
        "taken",
        "undecodable, connection ended by an error",
        "stream ended by an error",
        "connection ended by an error",
        "goodbye",
    } == set(outcomes)


@pytest.mark.parametrize("seed", [1, 3])
def test_nothing_that_a_verifier_says_breaks_an_agent(seed: int) -> None:
    outcomes = fuzz_agent(NUM_MESSAGES, seed)
    assert NUM_MESSAGES == outcomes.total()
    assert {
        "taken",
        "ignored",
        "undecodable, connection ended",
        "not allowed now, connection ended",
        "connection ended by the verifier",
        "stream ended by a fault of the verifier",
    } == set(outcomes)


def test_a_link_ends_with_nothing_but_the_errors_that_the_agent_expects() -> None:
    mutations = Mutations(5, Hello(PROTOCOL_VERSION))
    drafter = SharedVocabulary(board())
    endings: Counter[str] = Counter()

    async def one_link(frames: list[bytes]) -> None:
        link = Link(Hello(PROTOCOL_VERSION), drafter, lambda *_: None, lambda *_: None)
        session: Any = ScriptedSession(frames)
        with pytest.raises((LinkError, RemoteProtocolError)) as ending:
            await link.run(session, "ws://nowhere", "token")
        assert str(ending.value)
        endings[type(ending.value).__name__] += 1

    async def many_links() -> None:
        for _ in range(1000):
            frames = []
            for _ in range(mutations.random.randrange(12)):
                message = mutations.from_verifier()
                is_broken = mutations.random.random() < 0.2
                frames.append(mutations.broken(message) if is_broken else encode(message))
            if mutations.random.random() < 0.8:
                frames.insert(0, encode(Welcome(PROTOCOL_VERSION, "target", 64, 1, 256, 8)))
            await one_link(frames)

    asyncio.run(many_links())
    assert {
        "LinkLost",
        "RemoteProtocolError",
        "HandshakeRejected",
        "OtherVocabulary",
    } == set(endings)


@pytest.mark.parametrize("broken_share", [0.0, 1.0])
def test_legal_and_broken_messages_alone_do_no_harm_either(broken_share: float) -> None:
    outcomes = asyncio.run(fuzz_verifier(1000, 3, broken_share))
    outcomes += fuzz_agent(1000, 3, broken_share)
    assert 2000 == outcomes.total()


def test_every_field_of_every_message_is_said() -> None:
    hello = Hello(PROTOCOL_VERSION, vocab_size=9, fingerprint=b"x")
    mutations, said = Mutations(1, hello), set[tuple[type, str]]()

    def note(value: object) -> None:
        if isinstance(value, msgspec.Struct):
            for field in msgspec.structs.fields(value):
                held = getattr(value, field.name)
                if field.required or held != field.default:
                    said.add((type(value), field.name))
                note(held)
        elif isinstance(value, tuple):
            for one in value:
                note(one)

    for _ in range(40):
        mutations.begin()
        note(mutations.hello())
        for _ in range(100):
            message = mutations.from_agent()
            note(message)
            if isinstance(message, Open):
                mutations.positions[message.channel] = 0
        for channel in mutations.positions:
            mutations.asked[channel] = mutations.fields.of_generation()
        for _ in range(100):
            note(mutations.from_verifier())
    fields = {
        (kind, field.name)
        for kind in structs_in(AgentMessage | VerifierMessage)
        for field in msgspec.structs.fields(kind)
    }
    assert {(RatedDraft, "rows")} == fields - said  # it has none


def structs_in(kind: Any) -> set[type[msgspec.Struct]]:
    """What a type is made of, through all fields."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        inner = [structs_in(field.type) for field in msgspec.structs.fields(kind)]
        return {kind}.union(*inner)
    return set[type[msgspec.Struct]]().union(*(structs_in(one) for one in get_args(kind)))
