"""What an operator asks of workers: drained ones, how often each was to start anew, further ones.

Kept in one file, which the running verifier watches. It says how things should be, so an order that
is read twice is carried out once.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.errors import ConfigError
from verifier.engine.many_workers import ManyWorkers

logger = logging.getLogger(__name__)

FILE_NAME = "workers.json"


class WorkerOrders(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Of one worker."""

    num_drains: Annotated[int, Meta(ge=0)] = 0  # asked for since the file is there
    num_restarts: Annotated[int, Meta(ge=0)] = 0


class Orders(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Of all."""

    workers: dict[int, WorkerOrders] = {}  # by number
    added: tuple[str, ...] = ()  # where each is that was to join, since the file is there

    def of(self, number: int) -> WorkerOrders:
        """What was asked of one worker."""
        return self.workers.get(number, _NO_ORDERS)


_NO_ORDERS = WorkerOrders()
NO_ORDERS = Orders()


def read_orders(path: Path) -> Orders:
    """What the file says; where there is none, nothing.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Orders)
    except FileNotFoundError:
        return NO_ORDERS
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from None
    except msgspec.MsgspecError as error:
        sentence = f"{error}; `goodspeed-verifier workers` writes it anew where it is missing"
        raise ConfigError((f"{path}: {sentence}",)) from None


def pack_orders(orders: Orders) -> bytes:
    """The content of a file with these orders."""
    return msgspec.json.format(msgspec.json.encode(orders)) + b"\n"


class OrdersInForce:
    """Lets workers carry out what is asked for after the verifier's start."""

    def __init__(self, workers: ManyWorkers, known: Orders) -> None:
        """What is `known` was asked of an earlier verifier."""
        self._workers = workers
        self._known = known

    def take_over(self, orders: Orders) -> None:
        """Carry out what is new; why something is not is told in the log."""
        before, self._known = self._known, orders
        for number, asked in orders.workers.items():
            if number >= len(self._workers.workers):
                continue
            known, refusal = before.of(number), None
            if asked.num_restarts > known.num_restarts:
                refusal = self._workers.restart(number)
            elif asked.num_drains > known.num_drains:
                refusal = self._workers.drain(number)
            if refusal is not None:
                logger.error("worker %d stays as it is: %s", number, refusal)
        for where in orders.added[len(before.added) :]:
            refusal = self._workers.add_worker(where)
            if refusal is not None:
                logger.error("no worker joins at %s: %s", where, refusal)
