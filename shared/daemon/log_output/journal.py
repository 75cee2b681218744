"""The log in systemd's journal with fields of its own: `journalctl GOODSPEED_DEVICE=kitchen`.

By the native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): a datagram for each record. Where the
journal takes none, the line goes to standard error with its priority, which journald reads as well.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from shared.daemon.log_output.fields import fields_here
from shared.daemon.log_output.json_lines import MOST_CHARACTERS
from shared.daemon.peer_text import LogFormatter, one_line

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
# Of syslog(3).
_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}


class JournalHandler(logging.StreamHandler[TextIO]):
    """Sends records to the journal; `stream` gets those that it does not take."""

    def __init__(self, stream: TextIO, program: str, address: Path = JOURNAL_SOCKET) -> None:
        super().__init__(stream)
        self.setFormatter(LogFormatter(for_journal=True))
        self._program = program
        self._address = str(address)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)  # a journal that stands still must not stop rounds

    def emit(self, record: logging.LogRecord) -> None:
        """One datagram, or one line where that cannot be sent."""
        try:
            self._socket.sendto(pack(_entry(record, self._program)), self._address)
        except OSError:
            super().emit(record)

    def close(self) -> None:
        self._socket.close()
        super().close()


def takes_journal(environment: Mapping[str, str], address: Path = JOURNAL_SOCKET) -> bool:
    """Whether standard error goes to a journal, and that can be spoken to itself."""
    return "JOURNAL_STREAM" in environment and address.exists()


def pack(entry: Mapping[str, str]) -> bytes:
    """The datagram of an entry; values of several lines carry their length."""
    packed = bytearray()
    for name, value in entry.items():
        content = value.encode(errors="replace")
        if b"\n" in content:
            packed += name.encode() + b"\n" + struct.pack("<Q", len(content)) + content + b"\n"
        else:
            packed += name.encode() + b"=" + content + b"\n"
    return bytes(packed)


def _entry(record: logging.LogRecord, program: str) -> dict[str, str]:
    message = one_line(record.getMessage(), MOST_CHARACTERS)
    if record.exc_info:
        message += "\n" + logging.Formatter().formatException(record.exc_info)
    return {
        "MESSAGE": message,
        "PRIORITY": str(_PRIORITIES.get(record.levelno, 6)),
        "SYSLOG_IDENTIFIER": program,
        "SYSLOG_PID": str(os.getpid()),
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        "CODE_FUNC": record.funcName or "",
        "GOODSPEED_LOGGER": record.name,
        **{f"GOODSPEED_{name.upper()}": value for name, value in fields_here().items()},
    }
