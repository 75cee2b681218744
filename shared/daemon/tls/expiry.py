"""Telling the operator in time that a certificate is about to expire."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

from shared.daemon.tls.certificate import Certificate

logger = logging.getLogger(__name__)

DAY_SECONDS = 86_400.0


async def watch_expiry(
    certificate: Callable[[], Certificate | None],
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> NoReturn:
    """Warn now and every day of a certificate that expires soon; ends when cancelled."""
    while True:
        current = certificate()
        sentence = None if current is None else current.warning(clock())
        if sentence is not None:
            logger.warning("%s", sentence)
        await sleep(DAY_SECONDS)
