"""Of each bug one traceback a minute: a peer that can bring it about does not fill the log."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable

from shared.daemon.log_limit import LogLimit


class TracebackLimit(logging.Filter):
    """A filter for a log's handler; records without a traceback pass."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        # By place in our source and kind of error: as many as there are such places.
        self._limits: defaultdict[tuple[str, int, str], LogLimit] = defaultdict(LogLimit)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is the first of its kind for a minute; it then tells of those before."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return True
        limit = self._limits[record.pathname, record.lineno, type(error).__name__]
        if not limit.is_due(self._clock()):
            return False
        record.msg = f"{record.msg}{limit.ending()}"
        return True
