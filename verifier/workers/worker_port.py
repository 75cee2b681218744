"""A worker's port: one verifier at a time gives it rounds, the one that was started last.

Connections are let in by a thread of their own, rounds are run by the thread that calls `serve`.
Nothing is kept about streams beyond a connection, so a verifier may come and go, and another one
take its place. This module must never know what the target is.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time

from shared.errors import GoodspeedError, LinkError, LinkLost, RemoteProtocolError
from verifier.target.round import Round
from verifier.target.target import DeviceLost, OutOfMemory, TargetModel
from verifier.workers.frames import FramedSocket, at_worker
from verifier.workers.handshake import admit_verifier
from verifier.workers.known_streams import ReadStreams
from verifier.workers.messages import (
    Facts,
    Failed,
    Leave,
    Masks,
    MasksWanted,
    ToWorker,
    WireRound,
)
from verifier.workers.remote_masks import RoundMasks, num_mask_words
from verifier.workers.round_packing import pack_outcome, unpack_round

logger = logging.getLogger(__name__)

# Peers that have not shown the secret yet; more wait in the kernel's queue.
MAX_STRANGERS = 8
# Answers are small; who does not take one for so long is not there.
SEND_SECONDS = 10.0
MASKS_SECONDS = 5.0
_MAX_SENTENCE = 400


class WorkerPort:
    """Serves one target at a listening socket until `stop`, or until a verifier ends it."""

    def __init__(
        self, listening: socket.socket, secret: str, target: TargetModel, facts: Facts
    ) -> None:
        """The socket stays the caller's."""
        self._listening = listening
        self._secret = secret
        self._target = target
        self._facts = facts
        self._strangers = threading.BoundedSemaphore(MAX_STRANGERS)
        self._change = threading.Condition()
        self._current: FramedSocket[ToWorker] | None = None
        self._newest: FramedSocket[ToWorker] | None = None
        self._started_at = 0  # of the verifier that is served or about to be
        self._is_stopping = False
        self.computing_since: float | None = None  # when the round in hand began, by time.monotonic
        self._wake, self._woken = socket.socketpair()

    @property
    def status(self) -> str:
        """One line for the operator."""
        served = "waiting for a verifier" if self._current is None else "a verifier is here"
        return f"serving {self._target.model_name}: {served}"

    @property
    def serves_now(self) -> bool:
        """Whether a verifier is connected, as far as the kernel knows; from any thread."""
        with self._change:
            known = (self._current, self._newest)
        return any(connection is not None and not connection.is_lost() for connection in known)

    def serve(self) -> None:
        """Run rounds in this thread.

        Raises:
            DeviceLost: the target's device does not work any more.
        """
        doorkeeper = threading.Thread(target=self._let_in, name="goodspeed-worker-door")
        doorkeeper.start()
        try:
            while (connection := self._next_connection()) is not None:
                try:
                    if not self._serve(connection):
                        return
                except LinkLost as error:
                    logger.info("the verifier has left: %s", error)
                except RemoteProtocolError as error:
                    logger.warning("the verifier's connection is ended: %s", error)
                finally:
                    self._leave(connection)
        finally:
            self.stop()
            with self._change:
                self._drop_newest()
            doorkeeper.join()
            self._wake.close()
            self._woken.close()

    def stop(self) -> None:
        """End `serve` after the round in hand; from any thread."""
        with self._change:
            if self._is_stopping:
                return
            self._is_stopping = True
            for connection in (self._current, self._newest):
                if connection is not None:
                    connection.shut_down()
            self._change.notify_all()
        self._wake.send(b"\0")

    def _let_in(self) -> None:
        while True:
            # The keeper holds the socket, too, so `accept` cannot be woken by closing it.
            select.select([self._listening, self._woken], [], [])
            if self._is_stopping:
                return
            connected, _ = self._listening.accept()
            if not self._strangers.acquire(timeout=SEND_SECONDS):
                connected.close()
                continue
            name = "goodspeed-worker-greeting"
            threading.Thread(target=self._greet, args=(connected,), name=name, daemon=True).start()

    def _greet(self, connected: socket.socket) -> None:
        connection = at_worker(connected)
        try:
            known = self._secret, self._facts, self._newest_started_at
            started_at = admit_verifier(connection, *known)
        except (LinkError, RemoteProtocolError) as error:
            has_left = isinstance(error, LinkLost)  # as one that waited while the target loaded
            level = logging.DEBUG if has_left else logging.WARNING
            logger.log(level, "a connection is refused: %s", error)
            connection.close()
            return
        finally:
            self._strangers.release()
        with self._change:
            if self._current is not None:
                self._current.shut_down()
            if self._newest is not None:
                self._newest.close()
            self._newest, self._started_at = connection, started_at
            if self._is_stopping:  # `serve` may be over, and looks at it no more
                self._drop_newest()
            self._change.notify_all()

    def _newest_started_at(self) -> int:
        with self._change:
            is_free = self._current is None and self._newest is None
            return 0 if is_free else self._started_at

    def _next_connection(self) -> FramedSocket[ToWorker] | None:
        with self._change:
            while self._newest is None and not self._is_stopping:
                self._change.wait()
            self._current, self._newest = self._newest, None
            if self._is_stopping and self._current is not None:
                self._current.close()
                self._current = None
            return self._current

    def _drop_newest(self) -> None:
        """Close a connection that is not served any more."""
        if self._newest is not None:
            self._newest.close()
            self._newest = None

    def _leave(self, connection: FramedSocket[ToWorker]) -> None:
        with self._change:
            self._current = None
            connection.close()

    def _serve(self, connection: FramedSocket[ToWorker]) -> bool:
        """Run rounds of one connection; False: the worker is to end."""
        logger.info("a verifier is here")
        read = ReadStreams(self._target.num_blocks)
        while True:
            message = connection.receive(None)
            if isinstance(message, Leave):
                logger.info("the verifier ends this worker")
                return False
            if not isinstance(message, WireRound):
                raise RemoteProtocolError(f"a {type(message).__name__} came instead of a round")
            self._run(connection, message, read)

    def _run(
        self, connection: FramedSocket[ToWorker], message: WireRound, read: ReadStreams
    ) -> None:
        def ask() -> Masks:
            connection.send(MasksWanted(), SEND_SECONDS)
            answer = connection.receive(MASKS_SECONDS)
            if not isinstance(answer, Masks):
                raise RemoteProtocolError(f"a {type(answer).__name__} came instead of masks")
            return answer

        masks = RoundMasks(ask, num_mask_words(self._target.vocab_size))
        round_ = unpack_round(message, self._target, masks.at, read)
        self.computing_since = time.monotonic()
        try:
            outcome = self._target.run(round_)
        except (LinkLost, RemoteProtocolError):
            raise
        except Exception as error:
            connection.send(_failed(round_, error), SEND_SECONDS)
            if isinstance(error, DeviceLost):
                raise
            return
        finally:
            self.computing_since = None
        connection.send(pack_outcome(outcome), SEND_SECONDS)


def _failed(round_: Round, error: Exception) -> Failed:
    logger.error("the target failed in a round of %d tokens", round_.num_tokens, exc_info=error)
    sentence = str(error) if isinstance(error, GoodspeedError) else type(error).__name__
    match error:
        case DeviceLost():
            return Failed("device", sentence[:_MAX_SENTENCE])
        case OutOfMemory() | MemoryError():
            return Failed("memory", sentence[:_MAX_SENTENCE])
        case _:
            return Failed("exception", sentence[:_MAX_SENTENCE])
