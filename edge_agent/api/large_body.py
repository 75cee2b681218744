"""Reads what clients send: short bodies at once, long ones in a process of their own.

A long prompt is worth the 0.1 s that the process takes to start, and it ends with its body: a board
has little memory. This module must never look into a body itself.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import msgspec

from edge_agent.api.json_fields import is_slow_to_read
from edge_agent.api.large_body_reader import BodyKind, BodyRead, read_body
from edge_agent.api.requests.client_request import ClientRequest
from shared.errors import LocalProtocolError, RequestRefused

# The most that the event loop reads itself: 1.5 ms of the dearest JSON on a PC, 5 on a full heap.
SHORT_BODY_BYTES = 64 * 1024
MAX_PROCESSES = 4
_ARGUMENTS = ["-m", "edge_agent.api.large_body_reader"]  # and the kind
_SECONDS = 60.0  # its processor time is bounded too, by less


def is_short(body: bytes) -> bool:
    """Whether the event loop may read it itself."""
    return len(body) <= SHORT_BODY_BYTES and not is_slow_to_read(body)


class BodyReader:
    """For all endpoints of one agent: a few processes at a time, the others wait for their turn."""

    def __init__(self) -> None:
        self._processes = asyncio.Semaphore(MAX_PROCESSES)

    async def read(self, body: bytes, kind: BodyKind) -> ClientRequest:
        """The request that a body is.

        Raises:
            RequestRefused: it is no JSON object, or one of its fields is refused.
            LocalProtocolError: the process that was to read it failed.
        """
        if is_short(body):
            return read_body(body, kind)
        async with self._processes:
            read = await asyncio.to_thread(_read_in_a_process, body, kind)
        if read.request is None:
            raise RequestRefused(read.refusal, read.field)
        return read.request


def _read_in_a_process(body: bytes, kind: BodyKind) -> BodyRead:
    try:
        ended = subprocess.run(
            [sys.executable, *_ARGUMENTS, kind],
            input=body,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # a thread takes address space
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return BodyRead(refusal=f"the body takes more than {_SECONDS:g} s to read")
    if ended.returncode < 0:
        return BodyRead(refusal="the body takes too much time or memory to read")
    if ended.returncode > 0:
        raise LocalProtocolError(f"reading the body failed with status {ended.returncode}")
    return msgspec.msgpack.decode(ended.stdout, type=BodyRead)
