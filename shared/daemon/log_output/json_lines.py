"""The log as one JSON object a line, for programs that collect it."""

from __future__ import annotations

import datetime
import json
import logging

from shared.daemon.log_output.fields import fields_here
from shared.daemon.peer_text import one_line

MOST_CHARACTERS = 4000


class JsonFormatter(logging.Formatter):
    """Time in UTC, level, logger, message, device and stream where they are known."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, object] = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": one_line(record.getMessage(), MOST_CHARACTERS),
            **fields_here(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
