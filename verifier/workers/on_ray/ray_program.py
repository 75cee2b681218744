"""A program that imports ray, seen from the verifier, which does not: started, asked, ended.

It ends when this process does. This module must never know what Ray is.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import subprocess
import sys
import threading

import msgspec

from shared.errors import LinkLost, ModelError, RemoteProtocolError
from verifier.workers.frames import FramedSocket, TooLate
from verifier.workers.on_ray.messages import (
    FromKeeper,
    KeeperOrder,
    RayPlace,
    Ready,
    Refused,
    pack,
)

logger = logging.getLogger(__name__)

# Until it is ready; importing ray and starting one takes some 4 s (2 busy cores, 2026-11).
START_SECONDS = 60.0
# A program that was told to end gets this long.
END_SECONDS = 10.0


class RayProgram:
    """One process at a time; `start` and `ask` from one thread at a time, `close` from any."""

    def __init__(self, name: str, module: str) -> None:
        """`name` for a person; the module's command line is the number of its socket."""
        self.name = name
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._framed: FramedSocket[FromKeeper] | None = None
        self._is_closed = False
        self._lock = threading.RLock()  # of the process

    @property
    def is_running(self) -> bool:
        """Whether it can be asked."""
        process = self._process
        return process is not None and process.poll() is None

    @property
    def process_id(self) -> int | None:
        """Of the process that was started last."""
        return None if self._process is None else self._process.pid

    def start(self, order: RayPlace | KeeperOrder) -> Ready:
        """Start it, and wait until it is ready.

        Raises:
            LinkLost: it does not come up; trying again may help.
            ModelError: it says why it cannot.
        """
        self.end()
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            if self._is_closed:
                ours.close()
                raise LinkLost("the verifier ends")
            self._framed = FramedSocket(ours, msgspec.msgpack.Decoder(FromKeeper))
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, str(theirs.fileno())],
                stdin=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # signals of a terminal are for this process
            )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already, which is seen soon
            self._process.stdin.write(pack(order))
            self._process.stdin.flush()
        answer = self._receive(START_SECONDS)
        if isinstance(answer, Refused):
            self.end()
            raise ModelError(answer.sentence)
        if not isinstance(answer, Ready):
            raise RemoteProtocolError(f"{self.name} begins with a {type(answer).__name__}")
        logger.info("%s runs as process %d", self.name, self._process.pid)
        return answer

    def ask(self, question: msgspec.Struct, seconds: float) -> FromKeeper:
        """What it answers.

        Raises:
            LinkLost: it is gone, or is ended because it did not answer in time.
        """
        framed = self._framed
        if framed is None:
            raise LinkLost(f"{self.name} does not run")
        try:
            framed.send(question, seconds)
        except LinkLost as error:
            self.end()
            raise LinkLost(f"{self.name} is gone: {error}") from None
        return self._receive(seconds)

    def end(self) -> None:
        """End the process, if it runs."""
        with self._lock:
            process, self._process = self._process, None
            framed, self._framed = self._framed, None
            if process is None or framed is None:
                return
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            framed.shut_down()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                logger.warning("%s does not end by itself", self.name)
                process.kill()
                process.wait()
            framed.close()

    def close(self) -> None:
        """End it for good."""
        self._is_closed = True
        self.end()

    def _receive(self, seconds: float) -> FromKeeper:
        framed = self._framed
        if framed is None:
            raise LinkLost("the verifier ends")
        try:
            return framed.receive(seconds)
        except TooLate:
            self.end()
            raise LinkLost(f"{self.name} did not answer for {seconds:.0f} s") from None
        except (LinkLost, RemoteProtocolError) as error:
            self.end()
            raise LinkLost(f"{self.name} has ended; its own log says why ({error})") from None
