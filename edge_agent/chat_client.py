"""The terminal chat's way to an agent: one websocket for each question.

A socket kept open between questions would need a reader for the agent's pings while a person
thinks; a new one costs about a millisecond, and an agent that was restarted meanwhile is no matter.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from edge_agent.chat_messages import (
    MAX_CLIENT_MESSAGE_BYTES,
    ChatError,
    ChatFinished,
    ChatMessageOut,
    Text,
)
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

Answer = AsyncGenerator[Text | ChatFinished]


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

    async def model(self) -> str | None:
        """The target's name, None while the agent has no verifier; raises like `answer`."""
        async with self._failures_explained():
            response = await self._http.get(
                self._url / "v1" / "models",
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(CONNECT_SECONDS),
                raise_for_status=True,
            )
            models = msgspec.json.decode(await response.read(), type=_ModelList).data
            return models[0].id if models else None

    async def answer(self, request: Mapping[str, Any], stop: asyncio.Event) -> Answer:
        """The texts of the answer, then its end; setting `stop` ends it early.

        Raises:
            LinkLost: the agent cannot be reached, or went away.
            AuthRejected: it wants another API token.
            RequestRefused: it refuses a field of the request.
            GoodspeedError: anything else that it reports.
        """
        async with self._failures_explained():
            async with asyncio.timeout(CONNECT_SECONDS):
                socket = await self._http.ws_connect(
                    self._url / "v1" / "chat" / "socket",
                    headers=self._headers,
                    heartbeat=HEARTBEAT_SECONDS,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CONNECT_SECONDS),
                )
            stopper = asyncio.create_task(_pass_on(stop, socket), name="stop an answer")
            try:
                await socket.send_str(msgspec.json.encode({"type": "generate", **request}).decode())
                while True:
                    said = self._read(await socket.receive())
                    yield said
                    if isinstance(said, ChatFinished):
                        return
            finally:
                stopper.cancel()
                await socket.close()

    def _read(self, message: aiohttp.WSMessage) -> Text | ChatFinished:
        if message.type is aiohttp.WSMsgType.CLOSE and message.data == TOO_BIG:
            raise RequestRefused(f"the conversation exceeds {MAX_CLIENT_MESSAGE_BYTES} bytes")
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise LinkLost(f"the agent at {self.address} went away in mid-answer")
        said: ChatMessageOut = msgspec.json.decode(message.data, type=ChatMessageOut)
        match said:
            case ChatError(message=sentence, param=None):
                raise GoodspeedError(sentence)
            case ChatError(message=sentence, param=param):
                raise RequestRefused(sentence, param)
            case _:
                return said

    @asynccontextmanager
    async def _failures_explained(self) -> AsyncIterator[None]:
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
