"""The actors of one verifier's workers at a Ray: found, made, asked, ended.

They are named and detached: they outlive the keeper, and the next one finds them. A name tells all
that the worker was ordered, so one with another order is another one, and those are ended.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import msgspec
import ray
import ray.exceptions
import ray.util

from shared.errors import ModelError
from verifier.keeper.open_cluster import lets_strangers_in
from verifier.keeper.worker_actor import WorkerActor
from verifier.workers.on_ray.messages import (
    KeeperOrder,
    NotPlaced,
    Placed,
    Wanted,
    order_of,
    worker_name,
)

logger = logging.getLogger(__name__)

# What Ray raises where it is not there, or not as it should be.
RAY_FAILURES = (ray.exceptions.RayError, OSError, RuntimeError, ValueError)
# An actor answers at once, unless Ray still looks for its place or starts it.
_ANSWER_SECONDS = 1.0


class KeptActors:
    """Use it from one thread."""

    def __init__(self, order: KeeperOrder) -> None:
        """Join the Ray of the order; actors that nothing of it names are ended.

        Raises:
            ModelError: it cannot be joined, lets strangers in, or has too few GPUs.
        """
        self._order = order
        self._actors: dict[int, Any] = {}
        self._calls: dict[int, Any] = {}  # that are not answered yet
        address = order.ray.address
        if not order.is_local and lets_strangers_in(address):
            raise ModelError(
                f"workers.ray = {address} lets in who has no token: start Ray with "
                "RAY_AUTH_MODE=token (docs/workers.md)"
            )
        try:
            ray.init(
                address=address,
                namespace=order.namespace,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1" if order.is_local else None,
            )
        except RAY_FAILURES as error:
            raise ModelError(f"workers.ray: no way into {address}: {_told(error)}") from None
        self._gpus_each = self._find_gpus()
        self._end_others()

    def place(self, wanted: Wanted) -> Placed | NotPlaced:
        """Where a worker is."""
        number = wanted.number
        try:
            call = self._calls.pop(number, None) or self._ask(wanted)
            ready, _ = ray.wait([call], timeout=_ANSWER_SECONDS)
            if not ready:
                self._calls[number] = call
                return NotPlaced(self._why_it_waits())
            placed: Placed = ray.get(call)
            return placed
        except ray.exceptions.ActorDiedError as error:
            self._actors.pop(number, None)
            return NotPlaced(f"Ray has lost its actor: {_told(error)}")
        except RAY_FAILURES as error:
            return NotPlaced(f"Ray does not place it now: {_told(error)}")

    def _ask(self, wanted: Wanted) -> Any:
        if wanted.number not in self._actors:
            self._actors[wanted.number] = self._actor(wanted.number)
        actor = self._actors[wanted.number]
        return actor.serve.remote(wanted.lost_process_id, is_stuck=wanted.is_stuck)

    def _actor(self, number: int) -> Any:
        name, order = self._name_of(number), self._order
        try:
            actor = ray.get_actor(name)
        except ValueError:
            logger.info("%s is made at Ray", worker_name(number))
        else:
            logger.info("%s is at Ray already", worker_name(number))
            return actor
        options: dict[str, Any] = {"num_gpus": self._gpus_each, "num_cpus": 0}
        if not self._gpus_each and not order.is_local:
            options |= {"num_cpus": 1, "scheduling_strategy": "SPREAD"}
        made = ray.remote(WorkerActor).options(
            name=name, lifetime="detached", max_restarts=-1, max_task_retries=0, **options
        )
        host = "127.0.0.1" if order.is_local else None
        return made.remote(order_of(order, number), order.worker_module, host)

    def _name_of(self, number: int) -> str:
        order = self._order
        content = [order_of(order, number), order.worker_module, self._gpus_each]
        told = hashlib.sha256(msgspec.json.encode(content, enc_hook=str)).hexdigest()[:16]
        return f"{worker_name(number)} {told}"

    def _end_others(self) -> None:
        """Of an earlier verifier with other settings: they would keep the GPUs."""
        names = {self._name_of(number) for number in self._order.numbers}
        for name in ray.util.list_named_actors():
            if name not in names:
                logger.info("%s is ended: it was ordered otherwise", name)
                ray.kill(ray.get_actor(name))

    def _find_gpus(self) -> int:
        """So many of each worker; raises ModelError."""
        order, count = self._order, int(ray.cluster_resources().get("GPU", 0))
        if order.device == "cpu" or (order.device == "auto" and not count):
            return 0
        wanted = len(order.numbers) * order.gpus_per_worker
        if wanted > count and order.is_local:
            found = "1 GPU" if count == 1 else f"{count} GPUs"
            raise ModelError(
                f"{len(order.numbers)} workers want {wanted} GPUs, and Ray has {found}"
            )
        return order.gpus_per_worker

    def _why_it_waits(self) -> str:
        if not self._gpus_each:
            return "Ray has not started its actor yet"
        count = int(ray.cluster_resources().get("GPU", 0))
        free = int(ray.available_resources().get("GPU", 0))
        return f"it waits for {self._gpus_each} GPUs of one host; {free} of Ray's {count} are free"


def _told(error: Exception) -> str:
    """The first line that says something: Ray's errors are pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
