"""Both ends under fuzzed messages: what may come of each is checked, what came of them counted."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from edge_agent.drafting.settings import DraftSettings
from edge_agent.generation.active_generation import ActiveGeneration
from edge_agent.generation.generation import GenerationRequest
from shared.errors import RemoteProtocolError
from shared.protocol.codec import decode_from_agent, decode_from_verifier
from shared.protocol.messages import (
    PROTOCOL_VERSION,
    AgentMessage,
    Assignment,
    Error,
    Goodbye,
    Hello,
    Opened,
    PromptLogprobs,
    PromptPart,
    Verdict,
    Welcome,
)
from shared.protocol.session import AGENT_CONNECTION, ConnectionState, StreamState, next_state
from shared.protocol.token_ids import unpack_token_ids
from shared.speculation.sampling import SamplingParameters
from tests.support.ends.scripted import VOCAB_SIZE, board, scripted_service
from tests.support.ends.wired_board import BOUNDLESS, WiredBoard
from tests.support.messages.mutations import ASSIGNED, Mutations
from verifier.configured_rounds import configured_policy, round_settings
from verifier.engine.service import VerifierService
from verifier.rounds.settings import RoundsSection
from verifier.server.device_limits import DeviceUsage

Outcomes = Counter[str]
BROKEN_SHARE = 0.3
BROKEN_HELLO_SHARE = 0.1  # what ends a connection at its beginning says little
FLAT_LOGITS = np.zeros(VOCAB_SIZE, dtype=np.float32)
# A connection that outlives so many messages is left for another.
MESSAGES_PER_CONNECTION = 200
DRAFT_SETTINGS = DraftSettings(
    row_entries=8, confidence_stop=0.0, prefill_chunk_tokens=16, context_tokens=256
)


class ErrorRecords(logging.Handler):
    """Keeps every record that reports a bug."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


# --- the verifier -------------------------------------------------------------------------------


async def fuzz_verifier(
    num_messages: int,
    seed: int,
    broken_share: float = BROKEN_SHARE,
    told: Callable[[], object] = lambda: None,
) -> Outcomes:
    """Say so many messages to a verifier; asserts that each is answered or ignored as designed."""
    bugs = ErrorRecords()
    logging.getLogger().addHandler(bugs)
    service = _service(seed)
    hello = Hello(PROTOCOL_VERSION, "0", "raw", VOCAB_SIZE, service.fingerprint, 256)
    mutations = Mutations(seed, hello)
    usage = DeviceUsage(BOUNDLESS, asyncio.get_running_loop().time())
    rounds = asyncio.create_task(service.run())
    outcomes: Outcomes = Counter()
    try:
        while (num_done := outcomes.total()) < num_messages:
            length = min(num_messages - num_done, MESSAGES_PER_CONNECTION)
            await _fuzz_connection(service, usage, mutations, length, broken_share, outcomes, told)
    finally:
        service.stop()
        await rounds
        logging.getLogger().removeHandler(bugs)
    assert [] == bugs.records
    blocks = service.planner.blocks
    blocks.check_integrity()
    assert blocks.num_blocks == blocks.num_free_blocks
    assert ({}, {}) == (service.planner.streams, service.planner.queue)
    return outcomes


def _service(seed: int) -> VerifierService:
    """Odd seeds: with settings that let boards draft much; even ones: the program's, promises."""
    known: dict[str, Any] = {"context_tokens": 256, "max_streams_per_device": 4}
    if seed % 2 == 0:
        rounds = RoundsSection(slo_token_seconds=0.05)
        known |= {"settings": round_settings(rounds), "policy": configured_policy(rounds)}
    return scripted_service(**known)


async def _fuzz_connection(
    service: VerifierService,
    usage: DeviceUsage,
    mutations: Mutations,
    num_messages: int,
    broken_share: float,
    outcomes: Outcomes,
    told: Callable[[], object],
) -> None:
    one = WiredBoard(service, usage)
    mutations.begin()
    ended_channels = set[int]()

    async def say(message: AgentMessage, share: float) -> bool:
        is_broken = mutations.random.random() < share
        said = mutations.broken(message) if is_broken else message
        goes_on = await one.say(said)
        outcomes[_outcome(one, mutations, said, goes_on, ended_channels)] += 1
        told()
        return goes_on

    goes_on = await say(mutations.hello(), min(broken_share, BROKEN_HELLO_SHARE))
    service.device("board").assign(Assignment((ASSIGNED,), (0, 1)))
    for _ in range(num_messages - 1):
        if not goes_on:
            break
        goes_on = await say(mutations.from_agent(), broken_share)
    await one.leave()
    assert 0 == usage.num_queued_bytes


def _outcome(
    one: WiredBoard,
    mutations: Mutations,
    said: object,
    goes_on: bool,
    ended_channels: set[int],
) -> str:
    """What became of a message; streams' verdicts may come at any time."""
    refusal = None
    if isinstance(said, bytes):
        try:
            said = decode_from_agent(said)
        except RemoteProtocolError as error:
            refusal = str(error)
    outcome = "taken"
    last: Error | None = None
    for heard in one.heard():
        channel = getattr(heard, "channel", None)
        assert channel not in ended_channels, "an ended stream is never spoken of again"
        match heard:
            case Error(channel=None):
                assert last is None, "a connection ends with one error"
                last = heard
            case Error():
                outcome = "stream ended by an error"
                ended_channels.add(heard.channel or 0)
                mutations.positions.pop(heard.channel or 0, None)
            case Verdict():
                own = unpack_token_ids(heard.tokens, VOCAB_SIZE)
                after = heard.position + heard.num_accepted + len(own)
                mutations.positions[heard.channel] = after
                if heard.finish is not None:
                    ended_channels.add(heard.channel)
                    del mutations.positions[heard.channel]
            case Opened():
                mutations.positions[heard.channel] = 0
            case _:
                pass
    if refusal is not None:
        assert (refusal, False) == (last and last.sentence, goes_on)
        return "undecodable, connection ended by an error"
    if goes_on:
        assert last is None
        return outcome
    if isinstance(said, Goodbye):
        assert last is None
        return "goodbye"
    assert last is not None, f"the connection ended without a word after {said}"
    return "connection ended by an error"


# --- the agent ----------------------------------------------------------------------------------


def fuzz_agent(
    num_messages: int,
    seed: int,
    broken_share: float = BROKEN_SHARE,
    told: Callable[[], object] = lambda: None,
) -> Outcomes:
    """Say so many messages to an agent's streams; nothing but RemoteProtocolError may come out."""
    mutations = Mutations(seed, Hello(PROTOCOL_VERSION))
    outcomes: Outcomes = Counter()
    while outcomes.total() < num_messages:
        _FuzzedAgent(mutations).run(num_messages, broken_share, outcomes, told)
    return outcomes


class _FuzzedAgent:
    """The streams of an agent on one connection, without socket, thread or clock."""

    def __init__(self, mutations: Mutations) -> None:
        self._mutations = mutations
        self._state = next_state(
            AGENT_CONNECTION,
            ConnectionState.GREETING,
            Welcome(PROTOCOL_VERSION, "target", VOCAB_SIZE, 1, 256, 8),
        )
        self._drafter = board()
        self._generations: dict[int, ActiveGeneration] = {}
        self._now = 0.0
        mutations.begin()

    def run(
        self,
        num_messages: int,
        broken_share: float,
        outcomes: Outcomes,
        told: Callable[[], object],
    ) -> None:
        """Until the connection ends, or there were enough messages."""
        goes_on = True
        for _ in range(MESSAGES_PER_CONNECTION):
            if not goes_on or outcomes.total() >= num_messages:
                return
            self._open_some()
            message = self._mutations.from_verifier()
            said: object = message
            if self._mutations.random.random() < broken_share:
                said = self._mutations.broken(message)
            outcome, goes_on = self._receive(said)
            outcomes[outcome] += 1
            told()

    def _open_some(self) -> None:
        """Clients come and go."""
        random, mutations = self._mutations.random, self._mutations
        if random.random() < 0.1 or len(self._generations) < 3:
            channel, mutations.num_channels = mutations.num_channels, mutations.num_channels + 1
            sampling = SamplingParameters(random.choice((0.0, 0.8)))
            request = GenerationRequest(
                text="x",
                sampling=sampling,
                stop=("ab",),
                max_tokens=50,
                **mutations.asked.setdefault(channel, mutations.fields.of_generation()),
            )
            generation = ActiveGeneration(request, self._drafter, DRAFT_SETTINGS, self._now)
            generation.open_message(channel)
            self._generations[channel] = generation
            mutations.positions[channel] = 0
            if len(self._generations) > 8:
                self._forget(next(iter(self._generations)))
            if random.random() < 0.8:
                self._receive(mutations.opened(channel))

    def _forget(self, channel: int) -> None:
        del self._generations[channel]
        del self._mutations.positions[channel]

    def _receive(self, said: object) -> tuple[str, bool]:
        """What became of a message, and whether the connection goes on."""
        try:
            message = decode_from_verifier(said) if isinstance(said, bytes) else said
        except RemoteProtocolError:
            return "undecodable, connection ended", False
        try:
            self._state = next_state(AGENT_CONNECTION, self._state, message)  # type: ignore[arg-type]
        except RemoteProtocolError:
            return "not allowed now, connection ended", False
        if isinstance(message, Error) and message.channel is None:
            return "connection ended by the verifier", False
        generation = self._generations.get(getattr(message, "channel", -1))
        if (
            not isinstance(message, Opened | PromptPart | PromptLogprobs | Verdict | Error)
            or generation is None
        ):
            return "ignored", True
        self._now += 0.01
        try:
            generation.receive(message, 20, self._now)
        except RemoteProtocolError as error:
            generation.fail(error)
            self._forget(generation.stream.channel)
            return "stream ended by a fault of the verifier", True
        self._draft(generation)
        return "taken", True

    def _draft(self, generation: ActiveGeneration) -> None:
        """Let the draft model take a step or two, as the drafting thread would."""
        stream = generation.stream
        channel = stream.channel
        self._mutations.positions[channel] = len(stream.output_ids)
        if generation.state is StreamState.ENDED:
            self._forget(channel)
            return
        stream.take_due_drafts()
        for _ in range(3):
            step = stream.next_step()
            if step is None:
                break
            logits = FLAT_LOGITS if step.spec is not None else None
            stream.record_step(step, step.draw(logits), 0.001, self._now)
            stream.take_ready()
