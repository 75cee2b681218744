"""Tells the verifier, and the log, how the board's hardware is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn

from shared.protocol.board_health import BoardHealth

logger = logging.getLogger(__name__)

# Heat changes over seconds; a report is 20 bytes.
REPORT_SECONDS = 15.0


class HealthReports:
    """Reads sensors now and then, in a thread; `health` is what they told last."""

    def __init__(
        self, read: Callable[[], BoardHealth], send: Callable[[BoardHealth], None]
    ) -> None:
        self._read = read
        self._send = send
        self.health = BoardHealth()

    async def run(self) -> NoReturn:
        """Until it is cancelled."""
        while True:
            before = self.health.troubles
            self.health = await asyncio.to_thread(self._read)
            if self.health.troubles != before:
                words = ", ".join(self.health.troubles) or "all is well again"
                logger.warning("this board: %s", words)
            self._send(self.health)
            await asyncio.sleep(REPORT_SECONDS)
