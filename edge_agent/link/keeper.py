"""Keeps one link to the verifier up: connect, wait, connect again.

This module must never know streams or clients: its owner is told when there is a link, when it is
lost, and what came in.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn, Protocol

import aiohttp
import msgspec

from edge_agent.draft_model.shared_vocabulary import SharedVocabulary
from edge_agent.link.backoff import Backoff
from edge_agent.link.link import Link, OtherVocabulary
from shared.errors import (
    AuthRejected,
    HandshakeRejected,
    LinkError,
    RemoteProtocolError,
    TokenRevoked,
    VerifierLoading,
)
from shared.protocol.fingerprint import Difference, fingerprint, reconciled
from shared.protocol.messages import Hello, VerifierMessage, Welcome

logger = logging.getLogger(__name__)

# One for each block of 1,024 ids that one end alone has: Qwen 2.5 and 3 take one.
MAX_RECONCILIATIONS = 64

LinkEnd = LinkError | RemoteProtocolError
"""Why there is no link."""


class LinkOwner(Protocol):
    """What is kept linked: an agent, or a board of a load test."""

    @property
    def awaits_link(self) -> bool:
        """Whether a client waits for the verifier to come back."""
        ...

    def take_link(self, link: Link, welcome: Welcome) -> None:
        """The verifier is there; the link may be used until `lose_link`."""
        ...

    def receive(self, message: VerifierMessage, num_bytes: int) -> None:
        """A message of a stream came; its bytes on the wire."""
        ...

    def lose_link(self, error: LinkEnd, delay_seconds: float) -> None:
        """There is no link; the next attempt is after this delay. Raises: to make none."""
        ...


class LinkKeeper:
    """Connects with one token to one verifier, as long as `run` runs."""

    def __init__(
        self,
        url: str,
        token: str,
        hello: Hello,
        drafter: SharedVocabulary,
        owner: LinkOwner,
        draw_jitter: Callable[[], float] = random.random,  # in [0, 1)
        tls: ssl.SSLContext | None = None,  # None: whom the system trusts
    ) -> None:
        self._url = url
        self._token = token
        self._hello = hello
        self._drafter = drafter
        self._owner = owner
        self._draw_jitter = draw_jitter
        self._tls = tls
        self._has_news = asyncio.Event()  # another token or certificate, perhaps a better one
        self._backoff = Backoff()
        self._is_linked = False
        self._was_revoked = False  # this token, as far as the verifier said
        self._num_reconciliations = 0  # since the verifier last welcomed this board

    async def run(self, session: aiohttp.ClientSession) -> NoReturn:
        """Connect, and connect again after a while; ends when cancelled.

        Raises:
            Exception: what the owner's `lose_link` raises.
        """
        while True:
            self._is_linked = False
            self._has_news.clear()
            link = Link(self._hello, self._drafter, self._owner.receive, self._take_link)
            started_at = time.monotonic()
            try:
                await link.run(session, self._url, self._token, self._tls)
            except (LinkError, RemoteProtocolError) as error:
                if isinstance(error, OtherVocabulary) and await self._reconcile(error.difference):
                    continue
                error = self._remembered(error)
                delay = self._count_failure(error, time.monotonic() - started_at)
                self._is_linked = False
                self._owner.lose_link(error, delay)
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._has_news.wait()

    def replace_access(self, token: str, tls: ssl.SSLContext | None) -> None:
        """Use these from the next attempt on; where there is no link, that comes at once."""
        if not self._is_linked:
            self._has_news.set()
        self._token, self._tls = token, tls
        self._was_revoked = False

    def _remembered(self, error: LinkEnd) -> LinkEnd:
        """Of a token that was revoked the verifier says later that it does not know it."""
        self._was_revoked = isinstance(error, TokenRevoked) or (
            self._was_revoked and isinstance(error, LinkError)
        )
        return TokenRevoked() if self._was_revoked and isinstance(error, AuthRejected) else error

    def _take_link(self, link: Link, welcome: Welcome) -> None:
        self._is_linked = True
        self._was_revoked = False
        self._tell_vocabulary()
        self._owner.take_link(link, welcome)

    async def _reconcile(self, difference: Difference) -> bool:
        """Greet with what both vocabularies have; False: an id has two meanings."""
        drafter = self._drafter
        self._num_reconciliations += 1
        token_bytes: Sequence[bytes] | None = None
        if self._num_reconciliations <= MAX_RECONCILIATIONS:
            token_bytes = await asyncio.to_thread(
                reconciled, difference, drafter.token_bytes, drafter.own_token_bytes
            )
        is_possible = token_bytes is not None
        if token_bytes is None:
            self._num_reconciliations, token_bytes = 0, drafter.own_token_bytes
        proof = await asyncio.to_thread(fingerprint, token_bytes)
        drafter.take_vocabulary(token_bytes)
        self._hello = msgspec.structs.replace(self._hello, fingerprint=proof)
        return is_possible

    def _tell_vocabulary(self) -> None:
        drafter = self._drafter
        if self._num_reconciliations:
            logger.info(
                "draft and target share %d ids; %d of the draft model are never drafted",
                *(drafter.num_shared, drafter.num_lacked),
            )
        self._num_reconciliations = 0

    def _count_failure(self, error: LinkEnd, lived_seconds: float) -> float:
        """Seconds to the next attempt."""
        if self._is_linked:
            self._backoff.record_connection(lived_seconds)
        return self._backoff.delay_seconds(
            self._draw_jitter(),
            error.retry_after_seconds if isinstance(error, LinkError) else None,
            is_refused=isinstance(error, AuthRejected),
            is_final=isinstance(error, HandshakeRejected),
            is_awaited=self._owner.awaits_link and not self._is_linked,
            is_loading=isinstance(error, VerifierLoading),
        )
