"""What a keeper tells a worker that it starts: one line of JSON on its standard input.

The input stays open for as long as the keeper lives: its end is the worker's, too. Nothing of it
stands on a command line, where all users of a machine can read it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from shared.errors import RemoteProtocolError

MAX_ORDER_BYTES = 1 << 20


class WorkerOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who the worker is and what it is to load."""

    name: str
    secret: str
    settings: Mapping[str, object]  # "section.key" to value, those that differ from the defaults


def pack_order(order: WorkerOrder) -> bytes:
    """The line, with its end."""
    return msgspec.json.encode(order, enc_hook=str) + b"\n"


def unpack_order(line: bytes) -> WorkerOrder:
    """The order of a line; RemoteProtocolError: it is none."""
    try:
        return msgspec.json.decode(line, type=WorkerOrder)
    except msgspec.MsgspecError as error:
        raise RemoteProtocolError(f"not an order for a worker: {error}") from None
