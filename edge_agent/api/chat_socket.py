"""The websocket for chats of browser pages and terminals: one generation at a time, many in turn.

It must never decide how long an answer outlives its socket; `edge_agent.api.kept_answers` does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from aiohttp import WebSocketError, WSCloseCode, WSMessage, WSMsgType, web
from msgspec import Meta

from edge_agent.api.access import CHAT_SUBPROTOCOL
from edge_agent.api.json_fields import read_field, read_json_object, shown
from edge_agent.api.kept_answers import Answer, End, KeptAnswers
from edge_agent.api.large_body import BodyReader, is_short
from edge_agent.api.openai_request import read_socket_request
from edge_agent.generation.chat_messages import (
    MAX_CLIENT_MESSAGE_BYTES,
    ChatError,
    ChatFinished,
    ChatMessageOut,
    Started,
    Text,
    Waiting,
)
from edge_agent.generation.generation import Generator
from shared.daemon.connection_gate import gated_connection_of
from shared.errors import RequestRefused
from shared.protocol.messages import MAX_63_BITS

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 20.0  # a client that reads nothing for 1.5 × this is dropped
LOOK_SECONDS = 0.5  # how often a client hears that it waits for something else

WaitingFor = Callable[[int], Waiting]
"""What the generation of this name waits for."""


class ChatSockets:
    """All open chat sockets of one agent."""

    def __init__(
        self,
        generator: Generator,
        reader: BodyReader,
        waiting_for: WaitingFor = lambda stream_id: Waiting(),
    ) -> None:
        self._reader = reader
        self._answers = KeptAnswers(generator)
        self._waiting_for = waiting_for
        self._open: set[web.WebSocketResponse] = set()

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """The route: one socket from its upgrade to its end."""
        socket = web.WebSocketResponse(
            autoclose=False,  # a client that says goodbye may be gone before it is answered
            compress=False,
            max_msg_size=MAX_CLIENT_MESSAGE_BYTES,
            heartbeat=HEARTBEAT_SECONDS,
            protocols=(CHAT_SUBPROTOCOL,),
        )
        connection = gated_connection_of(request.transport)
        if connection is not None:
            connection.stays_half_closed = False  # who says no more here is gone
        await socket.prepare(request)
        self._open.add(socket)
        try:
            conversation = _Conversation(socket, self._answers, self._reader, self._waiting_for)
            await conversation.run()
            await socket.close(drain=False)
        finally:
            self._open.discard(socket)
        return socket

    async def close_all(self, _app: web.Application) -> None:
        """Say goodbye on shutdown; without it aiohttp waits for its whole shutdown timeout."""
        for socket in tuple(self._open):
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the agent stops")
        await self._answers.stop_all()


def _is_goodbye(message: WSMessage) -> bool:
    """Whether the client will not come back; a browser that loads its page again says 1001."""
    return message.type is WSMsgType.CLOSE and message.data != WSCloseCode.GOING_AWAY


class _Conversation:
    """One socket's generations."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        answers: KeptAnswers,
        reader: BodyReader,
        waiting_for: WaitingFor,
    ) -> None:
        self._socket = socket
        self._reader = reader
        self._answers = answers
        self._waiting_for = waiting_for
        self._answer: Answer | None = None  # None once its end is on its way
        self._reading: asyncio.Task[None] | None = None

    async def run(self) -> None:
        is_over = False  # as the client wishes; else it may come back for its answer
        try:
            message = await self._socket.receive()
            while message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                if message.type is WSMsgType.TEXT:
                    await self._receive(message.data)
                else:
                    await self._refuse(RequestRefused("only text messages are understood"))
                # One message for each turn of the event loop, however many a client sends at once.
                await asyncio.sleep(0)
                message = await self._socket.receive()
            is_over = _is_goodbye(message) or isinstance(message.data, WebSocketError)
        finally:
            await self._end(is_over=is_over)

    @property
    def _is_generating(self) -> bool:
        return self._answer is not None

    async def _receive(self, text: str) -> None:
        try:
            body = text.encode()
            if not is_short(body):
                self._check_free()
                asked = await self._reader.read(body, "chat socket")
                self._read(self._answers.begin(asked.generation))
                return
            fields = read_json_object(body)
            match fields.get("type"):
                case "generate":
                    self._check_free()
                    self._read(self._answers.begin(read_socket_request(fields).generation))
                case "resume":
                    self._check_free()
                    self._resume(fields)
                case "cancel":
                    await self._cancel()
                case other:
                    sentence = f"type = {shown(other)}: must be one of generate, resume, cancel"
                    raise RequestRefused(sentence, "type")
        except RequestRefused as error:
            await self._refuse(error)

    def _check_free(self) -> None:
        if self._is_generating:
            raise RequestRefused("an answer is being generated; cancel it or wait for its end")

    def _resume(self, fields: dict[str, Any]) -> None:
        answer_id = read_field(fields, "id", Annotated[str, Meta(pattern=r"^[0-9]{1,19}\Z")])
        if answer_id is None or int(answer_id) > MAX_63_BITS:
            raise RequestRefused("id must be that of an answer, as `started` gave it", "id")
        num_characters = read_field(fields, "num_characters", Annotated[int, Meta(ge=0)], 0)
        self._read(self._answers.resume(int(answer_id)), num_characters)

    def _read(self, answer: Answer, num_characters: int = 0) -> None:
        self._answer = answer
        messages = answer.read(self, num_characters)
        self._reading = asyncio.create_task(
            self._pass_on(Started(str(answer.id)), messages), name="chat answer"
        )

    async def _pass_on(self, started: Started, rest: AsyncGenerator[Text | End]) -> None:
        await self._send(started)
        telling = asyncio.create_task(self._tell_waiting(int(started.id)), name="chat waiting")
        try:
            async with aclosing(rest) as messages:
                async for message in messages:
                    if not isinstance(message, Text):
                        self._leave()  # the end may get lost on its way
                        telling.cancel()
                    await self._send(message)
                    await asyncio.sleep(0)  # others get on, however much there is to catch up with
        finally:
            telling.cancel()
            await asyncio.wait({telling})

    async def _tell_waiting(self, answer_id: int) -> None:
        """Why nothing comes, whenever that changes."""
        told = Waiting()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            waiting = self._waiting_for(answer_id)
            if waiting != told:
                await self._send(waiting)
            told = waiting

    async def _cancel(self) -> None:
        if self._answer is not None:
            await self._end(is_over=True)
            await self._send(ChatFinished("cancelled"))

    def _leave(self) -> Answer | None:
        """Read the answer no more; returns it unless another connection has taken it over."""
        answer, self._answer = self._answer, None
        if answer is None or not answer.is_read_by(self):
            return None
        self._answers.leave(answer)
        return answer

    async def _end(self, *, is_over: bool) -> None:
        answer = self._leave()
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait({self._reading})
        if answer is not None and is_over:
            await self._answers.stop(answer)

    async def _refuse(self, error: RequestRefused) -> None:
        await self._send(ChatError(str(error), error.field, is_generating=self._is_generating))

    async def _send(self, message: ChatMessageOut) -> None:
        try:
            await self._socket.send_str(msgspec.json.encode(message).decode())
        except ConnectionError as error:
            logger.debug("the client is gone: %s", error)  # `run` sees it too, and ends
