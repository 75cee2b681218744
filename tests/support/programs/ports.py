"""Ports of this host: one that is free, and where processes listen."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Sequence
from pathlib import Path


def free_port() -> int:
    """A port of this host on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listening_addresses(process_ids: Sequence[int]) -> set[str]:
    """Where these processes listen on the network."""
    inodes = set()
    for process_id in process_ids:
        for entry in Path(f"/proc/{process_id}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(os.readlink(entry).removeprefix("socket:[").removesuffix("]"))
    found = set()
    for table, size in (("tcp", 4), ("tcp6", 16)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                words = bytes.fromhex(fields[1].partition(":")[0])
                packed = b"".join(words[i : i + 4][::-1] for i in range(0, size, 4))
                found.add(str(ipaddress.ip_address(packed)))
    return found
