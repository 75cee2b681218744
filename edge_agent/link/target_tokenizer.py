"""The target's tokenizer, as a board has it: ids from the verifier, bytes from its own vocabulary.

Whatever drafts on the board, and if nothing does: only the verifier's tokenizer says how the target
reads a text.
"""

from __future__ import annotations

import asyncio
import ssl
from array import array
from collections.abc import Callable, Sequence

import aiohttp

from edge_agent.link.unreachable import unreachable
from shared.errors import (
    AuthRejected,
    HandshakeRejected,
    RemoteProtocolError,
    RequestRefused,
    TooManyStreams,
    VerifierAway,
)
from shared.protocol.token_ids import MAX_VOCAB_SIZE, unpack_token_ids
from shared.protocol.token_question import (
    MAX_QUESTION_BYTES,
    TOKENS_PATH,
    TokenQuestion,
    pack_question,
)
from shared.protocol.transport import http_address

ANSWER_SECONDS = 30.0
# Four bytes an id, and no token is shorter than a byte; templates and marks come on top.
MAX_ANSWER_BYTES = 8 * MAX_QUESTION_BYTES


class TargetTokenizer:
    """Of one board."""

    def __init__(
        self,
        url: str,
        token: str,
        token_bytes: Callable[[], Sequence[bytes]],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`url` is that of the verifier (ws:// or wss://); `token_bytes`: of every id, as known.

        `tls`: whom to trust; None: those whom the system trusts.
        """
        self._tls = tls
        self._url = url
        self._token = token
        self._token_bytes = token_bytes

    @property
    def token_bytes(self) -> Sequence[bytes]:
        """The literal bytes of every id."""
        return self._token_bytes()

    async def token_ids(self, question: TokenQuestion) -> array[int]:
        """How the target reads it.

        An array: a list of a million numbers takes 20 ms to make, and as long again to free.

        Raises:
            VerifierAway: the verifier cannot be reached, or loads its target.
            TooManyStreams: it was asked too often.
            RequestRefused: the template refuses the turns, or all is too long.
            GoodspeedError: it does not know this board, or makes no sense.
        """
        packed = pack_question(question)
        if len(packed) > MAX_QUESTION_BYTES:
            sentence = f"a prompt of {len(packed)} bytes exceeds {MAX_QUESTION_BYTES}"
            raise RequestRefused(f"{sentence}: the usage of an answer tells its tokens")
        address = http_address(self._url, TOKENS_PATH)
        headers = {"Authorization": f"Bearer {self._token}"}
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(
                    address,
                    data=packed,
                    headers=headers,
                    allow_redirects=False,
                    ssl=self._tls or True,
                ) as answer,
            ):
                return await self._ids_in(answer)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            trouble = await unreachable(error, self._url, ANSWER_SECONDS, self._tls)
            raise VerifierAway(str(trouble)) from error

    async def _ids_in(self, answer: aiohttp.ClientResponse) -> array[int]:
        said = bytearray()
        async for chunk in answer.content.iter_any():
            said += chunk
            if len(said) > MAX_ANSWER_BYTES:
                raise RemoteProtocolError(f"token ids exceed {MAX_ANSWER_BYTES} bytes")
        sentence = " ".join(said[:500].decode(errors="replace").split())
        match answer.status:
            case 200:
                # Two million of them take 10 ms.
                return await asyncio.to_thread(unpack_token_ids, bytes(said), MAX_VOCAB_SIZE)
            case 401 | 403:
                raise AuthRejected("the verifier does not accept this device's token")
            case 404 | 405:
                raise HandshakeRejected("the verifier is older than this board: update it")
            case 422 | 400 | 413:
                raise RequestRefused(sentence)
            case 503 if "sent more than" in sentence:
                raise TooManyStreams(sentence, _seconds(answer.headers.get("Retry-After")))
            case status:
                raise VerifierAway(sentence or f"the verifier answered {status}")


def _seconds(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
