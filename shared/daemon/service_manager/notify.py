"""What a program tells its service manager, by systemd's protocol: a datagram of KEY=VALUE lines.

Without a manager (no NOTIFY_SOCKET) all of it is silence. A manager that does not listen is no
error of the program's. This module must never decide whether the program is well.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping

from shared.daemon.peer_text import one_line

MAX_STATUS_CHARACTERS = 200


class ServiceManager:
    """What started the program and wants to know how it is; see sd_notify(3)."""

    def __init__(self, address: str = "", watchdog_seconds: float | None = None) -> None:
        """`address`: of a datagram socket, a path or an abstract name (@…); empty: none listens.

        `watchdog_seconds`: the manager ends the program after so long without `ping`; None: never.
        """
        self._address = address.replace("@", "\0", 1) if address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds

    @property
    def is_there(self) -> bool:
        return bool(self._address)

    def ready(self, status: str) -> None:
        """The program does what it is for."""
        self._tell("READY=1", _status(status))

    def status(self, sentence: str) -> None:
        """What `systemctl status` shows."""
        self._tell(_status(sentence))

    def ping(self) -> None:
        """All is well."""
        self._tell("WATCHDOG=1")

    def extend_start(self, seconds: float) -> None:
        """The program starts still, and will for so long at least."""
        self._tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}")

    def reloading(self) -> None:
        """Settings are read again; `ready` ends that."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The program ends by itself, or because it was asked to."""
        self._tell("STOPPING=1", _status("stopping"))

    def _tell(self, *lines: str) -> None:
        if not self.is_there:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as datagrams,
        ):
            datagrams.sendto("\n".join(lines).encode(), self._address)


def service_manager(environment: Mapping[str, str]) -> ServiceManager:
    """The manager that this environment names; addresses of other kinds than AF_UNIX are none."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return ServiceManager()
    return ServiceManager(address, _watchdog_seconds(environment))


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """None where none is wanted, or where another process is meant."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    process_id = environment.get("WATCHDOG_PID", str(os.getpid()))
    if not microseconds.isdecimal() or process_id != str(os.getpid()):
        return None
    return int(microseconds) / 1e6 or None


def _status(sentence: str) -> str:
    return f"STATUS={one_line(sentence, MAX_STATUS_CHARACTERS)}"
