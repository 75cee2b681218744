"""Asks the keeper, which alone knows Ray, where workers are; starts it again when it has ended.

Nothing of a round goes by here: where keeper and Ray are gone, those workers that are reached serve
on. This module must never import ray.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import msgspec

from shared.errors import ConfigError, LinkLost
from verifier.workers.on_ray.messages import (
    KeeperOrder,
    NotPlaced,
    Placed,
    RayPlace,
    Wanted,
)
from verifier.workers.on_ray.ray_program import RayProgram

logger = logging.getLogger(__name__)

KEEPER_MODULE = "verifier.keeper.keeper_program"
LOCAL_RAY_MODULE = "verifier.keeper.local_ray_program"
# A keeper answers within a second or two, also where Ray does not.
ANSWER_SECONDS = 15.0
CONNECT_SECONDS = 2.0
# A Ray of this host's own that serves nothing and places nothing for so long is not well.
PLACE_SECONDS = 60.0


def check_ray_is_installed() -> None:
    """ConfigError: it is not."""
    if find_spec("ray") is None:
        raise ConfigError(("workers.ray: Ray is not installed; pip install '.[verifier,cluster]'",))


class Keeper:
    """Of one verifier; `place` from any thread."""

    def __init__(self, order: KeeperOrder, module: str = KEEPER_MODULE) -> None:
        """Where `order.ray` has no address, one of this host's own is started, and ends with it."""
        self.worker_secret = order.worker.secret
        self._order = order
        self._program = RayProgram("the keeper", module)
        self._local_ray: RayProgram | None = None
        self._directory: Path | None = None
        if not order.ray.address:
            self._local_ray = RayProgram("Ray", LOCAL_RAY_MODULE)
        self._is_closing = threading.Event()
        self._lock = threading.Lock()  # one question at a time
        self._places_nothing_since: float | None = None
        self._serving: list[Callable[[], bool]] = []

    @property
    def process_ids(self) -> list[int | None]:
        """Of the keeper, and of the local Ray's own program."""
        programs = (self._program, self._local_ray)
        return [program.process_id for program in programs if program is not None]

    @property
    def is_closing(self) -> threading.Event:
        """Set once the verifier ends."""
        return self._is_closing

    def watch(self, serves: Callable[[], bool]) -> None:
        """Let a worker say whether it serves: a local Ray is not ended beneath it."""
        self._serving.append(serves)

    def add(self, number: int) -> None:
        """Keep another worker, too."""
        numbers = {*self._order.numbers, number}
        self._order = msgspec.structs.replace(self._order, numbers=tuple(sorted(numbers)))

    def place(self, wanted: Wanted) -> Placed | NotPlaced:
        """Where a worker is.

        Raises:
            LinkLost: neither keeper nor Ray say so now.
            ModelError: Ray refuses; the sentence says why.
        """
        with self._lock:
            if self._is_closing.is_set():
                raise LinkLost("the verifier ends")
            self._start_what_is_gone()
            answer = self._program.ask(wanted, ANSWER_SECONDS)
            assert isinstance(answer, Placed | NotPlaced), "a keeper answers what it is asked"
            if isinstance(answer, Placed) or any(serves() for serves in self._serving):
                self._places_nothing_since = None
            elif self._places_nothing_since is None:
                self._places_nothing_since = time.monotonic()
        return answer

    def end_others(self) -> None:
        """End all workers of the namespace that are not of the order.

        Raises:
            LinkLost, ModelError: as `place`.
        """
        with self._lock:
            self._start_what_is_gone()

    def close(self) -> None:
        """End the keeper; a Ray of this host's own ends with all of its workers."""
        if self._is_closing.is_set():
            return
        self._is_closing.set()
        self._program.close()
        if self._local_ray is not None:
            self._local_ray.close()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _start_what_is_gone(self) -> None:
        if self._local_ray is not None and not self._local_ray_serves():
            self._program.end()
            self._local_ray.end()
            self._start_local_ray()
            self._places_nothing_since = None
        if not self._program.is_running:
            self._program.start(self._order)

    def _local_ray_serves(self) -> bool:
        """Where its head is gone, workers cannot be placed; where all are gone, that is no use."""
        assert self._local_ray is not None
        if not self._local_ray.is_running:
            return False
        if any(serves() for serves in self._serving):
            return True
        since = self._places_nothing_since
        if since is not None and time.monotonic() - since > PLACE_SECONDS:
            logger.warning("Ray places nothing: it is started anew")
            return False
        host, _, port = self._order.ray.address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        except OSError:
            logger.warning("Ray's head is gone: Ray is started anew")
            return False
        return True

    def _start_local_ray(self) -> None:
        assert self._local_ray is not None
        if self._directory is None:
            self._directory = Path(tempfile.mkdtemp(prefix="goodspeed-ray-"))
        token_file = self._directory / "token"
        if not token_file.exists():
            token_file.touch(mode=0o600)
            token_file.write_text(secrets.token_hex(32))
        place = RayPlace("", str(token_file), str(self._directory))
        ready = self._local_ray.start(place)
        own = msgspec.structs.replace(place, address=ready.address)
        self._order = msgspec.structs.replace(self._order, ray=own)
