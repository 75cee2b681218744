"""The service manager's end of a notify socket."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

PATIENCE_SECONDS = 60.0


class NotifySocket:
    """Receives what programs tell; `address` is what they get as NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.told: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0", 1) if address[0] == "@" else address)

    def settings(self, watchdog_seconds: float | None = None) -> Mapping[str, str]:
        """The environment of a program that this one has started."""
        settings = {"NOTIFY_SOCKET": self.address}
        if watchdog_seconds is not None:
            settings["WATCHDOG_USEC"] = str(round(watchdog_seconds * 1e6))
        return settings

    def next_with(self, key: str, value: str = "") -> dict[str, str]:
        """The next datagram that tells `key`, with `value` in it; fails if none comes."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (rest := deadline - time.monotonic()) > 0:
            self._socket.settimeout(rest)
            said = self._read()
            if key in said and value in said[key]:
                return said
        raise TimeoutError(f"{key}={value} was not told; only {self.told}")

    def read_all(self) -> list[dict[str, str]]:
        """All that waits."""
        self._socket.setblocking(False)
        said = []
        while True:
            try:
                said.append(self._read())
            except BlockingIOError:
                return said

    def _read(self) -> dict[str, str]:
        lines = self._socket.recv(4096).decode().splitlines()
        said = dict(line.split("=", 1) for line in lines)
        self.told.append(said)
        return said

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()
