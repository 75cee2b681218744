"""What a device is refused: counted, and logged without letting it fill the log.

This module must never decide what is refused.
"""

from __future__ import annotations

import asyncio
import logging

from shared.daemon.peer_text import one_line
from shared.protocol.messages import MAX_SENTENCE_LENGTH, ErrorCode
from verifier.engine.metrics import Metrics
from verifier.server.device_limits import DeviceUsage

logger = logging.getLogger(__name__)


class Refusals:
    """Of one connection; what they count is the verifier's and the device's."""

    def __init__(self, metrics: Metrics, usage: DeviceUsage) -> None:
        self._metrics = metrics
        self._usage = usage

    def count(self, code: ErrorCode) -> None:
        """A message, a stream or the connection was refused."""
        self._metrics.rejected(code)
        self._usage.num_exceeded += code == ErrorCode.LIMIT

    def warn(self, message: str, *values: object) -> None:
        """Log a warning, but not more than one a minute about this device.

        Values may hold what the board has said.
        """
        log_limit = self._usage.log_limit
        shown = [v if isinstance(v, int) else one_line(v, MAX_SENTENCE_LENGTH) for v in values]
        if log_limit.is_due(asyncio.get_running_loop().time()):
            logger.warning(f"{message}%s", *shown, log_limit.ending())  # noqa: G004 - not a value
        else:
            logger.debug(message, *shown)
