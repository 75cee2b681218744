"""The websocket for chats of browser pages and terminals: one generation at a time, many in turn.

It must never keep a generation running that nobody reads.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from edge_agent.api_guard import CHAT_SUBPROTOCOL
from edge_agent.chat_messages import (
    MAX_CLIENT_MESSAGE_BYTES,
    ChatError,
    ChatFinished,
    ChatMessageOut,
    Text,
)
from edge_agent.generation import Finished, GenerationRequest, Generator
from edge_agent.json_fields import read_json_object, shown
from edge_agent.openai_request import read_chat_request
from edge_agent.running import running
from shared.errors import GoodspeedError, LocalProtocolError, RequestRefused

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 20.0  # a client that reads nothing for 1.5 × this is dropped
CLOSE_SECONDS = 5.0  # for a generation to end after it was cancelled


class ChatSockets:
    """All open chat sockets of one agent."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._open: set[web.WebSocketResponse] = set()

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """The route: one socket from its upgrade to its end."""
        socket = web.WebSocketResponse(
            compress=False,
            max_msg_size=MAX_CLIENT_MESSAGE_BYTES,
            heartbeat=HEARTBEAT_SECONDS,
            protocols=(CHAT_SUBPROTOCOL,),
        )
        await socket.prepare(request)
        self._open.add(socket)
        try:
            await _Conversation(socket, self._generator).run()
        finally:
            self._open.discard(socket)
        return socket

    async def close_all(self, _app: web.Application) -> None:
        """Say goodbye on shutdown; without it aiohttp waits for its whole shutdown timeout."""
        for socket in tuple(self._open):
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the agent stops")


class _Conversation:
    """One socket's generations."""

    def __init__(self, socket: web.WebSocketResponse, generator: Generator) -> None:
        self._socket = socket
        self._generator = generator
        self._generation: asyncio.Task[None] | None = None
        self._is_answered = True  # the last generation's `finished` or `error` is on its way

    async def run(self) -> None:
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    await self._receive(message.data)
                elif message.type is WSMsgType.BINARY:
                    sentence = "only text messages are understood"
                    await self._send(ChatError(sentence, is_generating=not self._is_answered))
        finally:
            await self._stop_generation()

    async def _receive(self, text: str) -> None:
        try:
            fields = read_json_object(text)
            match fields.get("type"):
                case "generate":
                    self._start(read_chat_request(fields).generation)
                case "cancel":
                    await self._cancel()
                case other:
                    sentence = f"type = {shown(other)}: must be one of generate, cancel"
                    raise RequestRefused(sentence, "type")
        except RequestRefused as error:
            await self._send(
                ChatError(str(error), error.field, is_generating=not self._is_answered)
            )

    def _start(self, request: GenerationRequest) -> None:
        if not self._is_answered:
            raise RequestRefused("an answer is being generated; cancel it or wait for its end")
        self._is_answered = False
        self._generation = asyncio.create_task(self._generate(request), name="chat generation")

    async def _cancel(self) -> None:
        await self._stop_generation()
        if not self._is_answered:
            await self._finish(ChatFinished("cancelled"))

    async def _stop_generation(self) -> None:
        if self._generation is not None:
            self._generation.cancel()
            await asyncio.wait({self._generation}, timeout=CLOSE_SECONDS)

    async def _generate(self, request: GenerationRequest) -> None:
        try:
            end: ChatFinished | ChatError = await self._put_out(request)
        except RequestRefused as error:
            end = ChatError(str(error), error.field)
        except GoodspeedError as error:
            end = ChatError(str(error))
        except Exception:
            logger.exception("an answer failed")
            end = ChatError("the agent failed; its log says why")
        await self._finish(end)

    async def _put_out(self, request: GenerationRequest) -> ChatFinished:
        async with running(self._generator, request) as events:
            async for event in events:
                if isinstance(event, Finished):
                    return ChatFinished(
                        event.reason, event.timings, event.seed, event.acceptance_mode
                    )
                await self._send(Text(event.text, event.origin))
        raise LocalProtocolError("the generation ended without a finish")

    async def _finish(self, message: ChatFinished | ChatError) -> None:
        self._is_answered = True
        await self._send(message)

    async def _send(self, message: ChatMessageOut) -> None:
        try:
            await self._socket.send_str(msgspec.json.encode(message).decode())
        except ConnectionError as error:
            logger.debug("the client is gone: %s", error)  # `run` sees it too, and ends
