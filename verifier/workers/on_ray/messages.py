"""What a verifier and the programs that import ray say to each other, over sockets of one host.

The order comes first, as a line on standard input, as every worker gets its own. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from shared.errors import RemoteProtocolError
from verifier.workers.orders import WorkerOrder


class RayPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which Ray it is, and how to get in."""

    address: str  # host:port of its head; empty: one of this host's own, which is to be started
    token_file: str
    directory: str = ""  # where that one keeps its files


class KeeperOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a keeper is to keep: these workers, each as the order says but for its name."""

    ray: RayPlace
    is_local: bool  # all of it is of this host, and listens on loopback alone
    namespace: str
    numbers: tuple[int, ...]  # of the workers
    gpus_per_worker: int
    device: str  # as in target.device
    worker: WorkerOrder
    worker_module: str  # the program of a worker's process


class _Message(msgspec.Struct, frozen=True, array_like=True):
    pass


class Ready(_Message, frozen=True, tag=1):
    """The program is; `address` of Ray's head."""

    address: str


class Refused(_Message, frozen=True, tag=2):
    """It cannot be, and ends."""

    sentence: str


class Wanted(_Message, frozen=True, tag=3):
    """Where is this worker? Its process is started if none runs."""

    number: int
    lost_process_id: int | None = None  # the connection to this one was lost
    is_stuck: bool = False  # for it answered too late: it is to be ended


class Placed(_Message, frozen=True, tag=4):
    """There; it may still load its target."""

    host: str
    port: int
    process_id: int


class NotPlaced(_Message, frozen=True, tag=5):
    """Nowhere now; ask again."""

    sentence: str


ToKeeper = Wanted
FromKeeper = Ready | Refused | Placed | NotPlaced
Order = TypeVar("Order", RayPlace, KeeperOrder)


def pack(order: RayPlace | KeeperOrder) -> bytes:
    """The line, with its end."""
    return msgspec.json.encode(order, enc_hook=str) + b"\n"


def unpack(line: bytes, kind: type[Order]) -> Order:
    """The order of a line; RemoteProtocolError: it is none."""
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.MsgspecError as error:
        raise RemoteProtocolError(f"not an order for a keeper: {error}") from None


def worker_name(number: int) -> str:
    """As all others of one verifier's workers are called, too."""
    return f"worker {number}"


def order_of(order: KeeperOrder, number: int) -> WorkerOrder:
    """Of one of the workers."""
    known: Mapping[str, object] = order.worker.settings
    return WorkerOrder(worker_name(number), order.worker.secret, known)
