"""What this machine lacks, as reasons to skip a test; an ordinary one lacks nothing."""

from __future__ import annotations

import platform
import socket
from pathlib import Path

import pytest


def _is_emulated() -> bool:
    """Whether the kernel runs on another processor than this program's (qemu-user)."""
    tells = {"aarch64": "CPU implementer", "x86_64": "vendor_id"}.get(platform.machine(), "")
    return tells not in Path("/proc/cpuinfo").read_text(encoding="utf-8")


def _has_multicast() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        loopback = socket.inet_aton("127.0.0.1")
        try:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, loopback)
        except OSError:
            return False
    return True


needs_own_processor = pytest.mark.skipif(
    _is_emulated(), reason="the processor is emulated: /proc/cpuinfo and times are of another one"
)
needs_multicast = pytest.mark.skipif(
    not _has_multicast(), reason="the kernel, or what emulates it, has no IP_MULTICAST_IF"
)
