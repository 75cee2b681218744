"""What verifiers, agents and clients of this process see of their streams, as histories.

A chat is known by its prompt: at any time at most one may be running with the same.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast
from unittest.mock import patch

import aiohttp
import msgspec

from edge_agent.generation.generation import Events, Finished, GenerationRequest, TextPiece
from shared.protocol.messages import AgentMessage, Open, Verdict, VerifierMessage
from shared.protocol.token_ids import count_token_ids, unpack_token_ids
from tests.support.chats.history import Committed, StreamHistory, TakenUp
from verifier.server.connection import DeviceConnection

_CLIENT_SECONDS = 600.0


@dataclass
class VerdictRecorder:
    """What every verifier said of its streams; one that was started again goes on with them."""

    _prompts: dict[int, str] = field(default_factory=dict)  # by stream id
    _verdicts: dict[str, list[TakenUp | Committed]] = field(default_factory=dict)
    _channels: dict[tuple[DeviceConnection, int], str] = field(default_factory=dict)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hear every message of every connection within the block."""
        receive, send = DeviceConnection._receive, DeviceConnection.send

        def received(connection: DeviceConnection, message: AgentMessage) -> None:
            if isinstance(message, Open):
                self._opened(connection, message)
            receive(connection, message)

        def sent(connection: DeviceConnection, message: VerifierMessage) -> None:
            if isinstance(message, Verdict):
                self._said(connection, message)
            send(connection, message)

        with (
            patch.object(DeviceConnection, "_receive", received),
            patch.object(DeviceConnection, "send", sent),
        ):
            yield

    def verdicts(self, prompt: str) -> tuple[TakenUp | Committed, ...]:
        """Of the latest stream with this prompt."""
        return tuple(self._verdicts.get(prompt, ()))

    def _opened(self, connection: DeviceConnection, message: Open) -> None:
        prompt = self._prompts.get(message.stream_id)
        if prompt is None:
            prompt = message.messages[-1].content
            self._prompts[message.stream_id] = prompt
            self._verdicts[prompt] = []
        else:
            self._verdicts[prompt].append(TakenUp(count_token_ids(message.committed)))
        self._channels[connection, message.channel] = prompt

    def _said(self, connection: DeviceConnection, verdict: Verdict) -> None:
        vocab_size = connection._service.target.vocab_size
        token_ids = tuple(unpack_token_ids(verdict.tokens, vocab_size).tolist())
        if verdict.num_accepted:
            stream = connection._channels.stream_of(verdict.channel)
            assert stream is not None
            end = verdict.position + verdict.num_accepted
            token_ids = (*stream.output_ids[verdict.position : end], *token_ids)
        prompt = self._channels[connection, verdict.channel]
        self._verdicts[prompt].append(Committed(verdict.position, token_ids))


class RecordingGenerator:
    """An agent whose answers are written down on their way to its clients."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self.pieces: dict[str, list[str]] = {}  # by prompt
        self.token_ids: dict[str, tuple[int, ...]] = {}
        self.num_pieces = 0  # of all answers so far

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    async def generate(self, request: GenerationRequest) -> AsyncIterator[TextPiece | Finished]:
        """Pieces of text, then Finished; see `edge_agent.generation.generation.Generator`."""
        prompt = request.messages[-1].content
        pieces = self.pieces[prompt] = []
        self.token_ids[prompt] = ()
        async with aclosing(cast(Events, self._agent.generate(request))) as events:
            async for event in events:
                if isinstance(event, TextPiece):
                    pieces.append(event.text)
                    self.num_pieces += 1
                else:
                    self.token_ids[prompt] = event.token_ids
                yield event


@dataclass
class Client:
    """One answer, read from an agent's event stream as any OpenAI client reads it."""

    prompt: str
    pieces: list[str] = field(default_factory=list)
    latest_at: float = 0.0  # when the latest piece came
    finish_reason: str | None = None
    error: str | None = None
    is_turned_away: bool = False  # it asked while the agent had no verifier, and may ask again

    async def ask(self, http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> None:
        """Read one answer to its end, whatever comes."""
        turn = {"role": "user", "content": self.prompt}
        timeout = aiohttp.ClientTimeout(_CLIENT_SECONDS)
        try:
            async with http.post(
                f"{url}/v1/chat/completions",
                json={"messages": [turn], "stream": True, **body},
                timeout=timeout,
            ) as answer:
                self.is_turned_away = answer.status == HTTPStatus.SERVICE_UNAVAILABLE
                if answer.status != HTTPStatus.OK:
                    self.error = f"status {answer.status}: {await answer.text()}"
                    return
                async for line in answer.content:
                    self._read(line)
        except (aiohttp.ClientError, TimeoutError) as error:
            self.error = f"{type(error).__name__}: {error}"
        if self.finish_reason is None and self.error is None:
            self.error = "the answer ended without a finish"

    def _read(self, line: bytes) -> None:
        if not line.startswith(b"data: {"):
            return
        event = msgspec.json.decode(line.removeprefix(b"data: "))
        if "error" in event:
            self.error = event["error"]["message"]
            return
        for choice in event["choices"]:
            self.finish_reason = choice["finish_reason"] or self.finish_reason
            if piece := choice["delta"].get("content"):
                self.pieces.append(piece)
                self.latest_at = time.monotonic()


def history_of(
    client: Client, generator: RecordingGenerator, recorder: VerdictRecorder
) -> StreamHistory:
    """One chat as all three saw it."""
    prompt = client.prompt
    return StreamHistory(
        stream=repr(prompt),
        verdicts=recorder.verdicts(prompt),
        agent_ids=generator.token_ids.get(prompt, ()),
        agent_pieces=tuple(generator.pieces.get(prompt, ())),
        client_pieces=tuple(client.pieces),
    )
