"""The terminal chat's way to an agent: one websocket for each question.

A socket kept open between questions would need a reader for the agent's pings while a person
thinks; a new one costs about a millisecond, and an agent that was restarted meanwhile is no matter.
A socket that breaks in the middle of an answer is replaced, and the answer goes on.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress

import aiohttp
import msgspec
from yarl import URL

from edge_agent.generation.chat_messages import (
    MAX_CLIENT_MESSAGE_BYTES,
    ChatError,
    ChatFinished,
    ChatMessageOut,
    Started,
    Text,
    Waiting,
)
from edge_agent.link.backoff import Backoff
from shared.errors import (
    AuthRejected,
    GoodspeedError,
    LinkError,
    LinkLost,
    RemoteProtocolError,
    RequestRefused,
)

CONNECT_SECONDS = 5.0
HEARTBEAT_SECONDS = 20.0
TOO_BIG = aiohttp.WSCloseCode.MESSAGE_TOO_BIG
CANCEL_SECONDS = 5.0  # for the agent to end an answer that was stopped

# How long to try to come back to an answer; the agent keeps it about as long.
RESUME_SECONDS = 60.0

Answer = AsyncGenerator[Text | ChatFinished]
_Messages = AsyncGenerator[Started | Text | Waiting | ChatFinished]


class _Model(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[_Model]


class ChatClient:
    """Asks one agent."""

    def __init__(self, http: aiohttp.ClientSession, url: str, api_token: str | None = None) -> None:
        self._http = http
        self._headers = {} if api_token is None else {"Authorization": f"Bearer {api_token}"}
        self._url = _http_url(url)

    @property
    def address(self) -> str:
        return self._url.authority

    async def fetch_model(self) -> str | None:
        """The target's name, None while the agent has no verifier; raises like `answer`."""
        async with self._explain_failures():
            response = await self._http.get(
                self._url / "v1" / "models",
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(CONNECT_SECONDS),
                raise_for_status=True,
            )
            models = msgspec.json.decode(await response.read(), type=_ModelList).data
            return models[0].id if models else None

    async def answer(self, request: Mapping[str, object], stop: asyncio.Event) -> Answer:
        """The texts of the answer, then its end; setting `stop` ends it early.

        Raises:
            LinkLost: the agent cannot be reached, or went away and did not come back.
            AuthRejected: it wants another API token.
            RequestRefused: it refuses a field of the request.
            GoodspeedError: anything else that it reports.
        """
        client_message = {"type": "generate", **request}
        answer_id: str | None = None
        num_characters = 0
        cut = _Cut()
        while True:
            try:
                async with aclosing(self._messages(client_message, stop)) as messages:
                    async for message in messages:
                        cut.record_message()
                        if isinstance(message, Started):
                            answer_id = message.id
                            continue
                        if isinstance(message, Waiting):
                            continue
                        yield message
                        if isinstance(message, ChatFinished):
                            return
                        num_characters += len(message.text)
            except LinkLost:
                if answer_id is None or not await cut.wait(stop):
                    raise
            if stop.is_set():
                yield ChatFinished("cancelled")  # the agent finds out by itself
                return
            client_message = {"type": "resume", "id": answer_id, "num_characters": num_characters}

    async def _messages(
        self, client_message: Mapping[str, object], stop: asyncio.Event
    ) -> _Messages:
        """What the agent says on one socket."""
        async with self._explain_failures():
            async with asyncio.timeout(CONNECT_SECONDS):
                socket = await self._http.ws_connect(
                    self._url / "v1" / "chat" / "socket",
                    headers=self._headers,
                    heartbeat=HEARTBEAT_SECONDS,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CONNECT_SECONDS),
                )
            stopper = asyncio.create_task(_pass_on(stop, socket), name="stop an answer")
            try:
                await socket.send_str(msgspec.json.encode(client_message).decode())
                while True:
                    yield self._read(await socket.receive())
            finally:
                stopper.cancel()
                await socket.close()

    def _read(self, message: aiohttp.WSMessage) -> Started | Text | Waiting | ChatFinished:
        if message.type is aiohttp.WSMsgType.CLOSE and message.data == TOO_BIG:
            raise RequestRefused(f"the conversation exceeds {MAX_CLIENT_MESSAGE_BYTES} bytes")
        if message.type is aiohttp.WSMsgType.CLOSE:
            raise LinkError(f"the agent at {self.address} left in mid-answer")
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise LinkLost(f"the agent at {self.address} went away in mid-answer")
        agent_message: ChatMessageOut = msgspec.json.decode(message.data, type=ChatMessageOut)
        match agent_message:
            case ChatError(message=sentence, param=None):
                raise GoodspeedError(sentence)
            case ChatError(message=sentence, param=param):
                raise RequestRefused(sentence, param)
            case _:
                return agent_message

    @asynccontextmanager
    async def _explain_failures(self) -> AsyncIterator[None]:
        try:
            yield
        except aiohttp.ClientResponseError as error:  # a refused upgrade is one, too
            raise self._refusal(error.status) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            sentence = f"no agent answers at {self._url}: {_reason(error)}; is it running there?"
            raise LinkLost(sentence) from error
        except msgspec.DecodeError as error:
            raise RemoteProtocolError(f"what answers at {self._url} is no agent") from error

    def _refusal(self, status: int) -> LinkError:
        match status:
            case 401:
                return AuthRejected(f"the agent at {self.address} wants another API token")
            case 403:
                return LinkError(f"the agent does not go by the name of {self.address}")
            case _:
                return LinkError(f"what answers at {self._url} is no agent (HTTP status {status})")


class _Cut:
    """The time since the agent was heard of, and when to look for it again."""

    def __init__(self) -> None:
        self._backoff = Backoff()
        self._came_at = self._heard_at = time.monotonic()
        self._is_cut = False

    def record_message(self) -> None:
        """The agent said something."""
        self._heard_at = time.monotonic()
        if self._is_cut:
            self._is_cut, self._came_at = False, self._heard_at

    async def wait(self, stop: asyncio.Event) -> bool:
        """Wait before the next attempt, but not beyond `stop`; False: it has been too long."""
        if not self._is_cut:
            self._backoff.record_connection(self._heard_at - self._came_at)
            self._is_cut = True
        if time.monotonic() - self._heard_at > RESUME_SECONDS:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(
                self._backoff.delay_seconds(random.random(), is_awaited=True)
            ):
                await stop.wait()
        return True


async def _pass_on(stop: asyncio.Event, socket: aiohttp.ClientWebSocketResponse) -> None:
    await stop.wait()
    await socket.send_str('{"type": "cancel"}')
    await asyncio.sleep(CANCEL_SECONDS)
    await socket.close()


def _http_url(url: str) -> URL:
    with suppress(ValueError):
        parsed = URL(url)
        if parsed.scheme in ("http", "https") and parsed.host:
            return parsed
    raise LinkError(f"url {url!r} is not of the form http://host:port")


def _reason(error: Exception) -> str:
    """The short cause: aiohttp wraps it into a sentence that repeats host and port."""
    if isinstance(error, aiohttp.ClientConnectorError):
        number, sentence = error.os_error.errno, error.os_error.strerror
        if number is not None and number > 0:  # failed name look-ups have negative ones
            sentence = os.strerror(number)
        return (sentence or "no connection").lower()
    return str(error) or "no answer in time"
