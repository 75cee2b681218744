"""A target whose rounds run at a worker, behind the interface of one in this process.

One connection, used once: where it breaks, where a round is late or a frame is none of ours, it is
closed for good (the worker may still be busy with it) and every further round is refused. Another
one is made by `connect`. This module must never decide what becomes of streams.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from shared.errors import LinkLost, ModelError, RemoteProtocolError
from verifier.target.masked_check import MOST_WAIT_SECONDS
from verifier.target.round import Round, RoundOutcome
from verifier.target.target import OutOfMemory, TargetLost
from verifier.target.token_masks import TokenMasks
from verifier.workers.frames import FramedSocket, TooLate, at_verifier
from verifier.workers.handshake import greet_worker
from verifier.workers.known_streams import SentStreams
from verifier.workers.messages import (
    Facts,
    Failed,
    Leave,
    MasksWanted,
    ToVerifier,
    WireOutcome,
)
from verifier.workers.remote_masks import num_mask_words, pack_masks
from verifier.workers.round_packing import pack_round, unpack_outcome

CONNECT_SECONDS = 3.0
# How often it is looked whether a worker that says nothing yet is still loading.
LOOK_SECONDS = 0.1


class WorkerAddress(NamedTuple):
    """Where a worker listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class RoundFailed(Exception):
    """The target failed at the worker, which is well; parts of the round may be run again."""


class RemoteTarget:
    """Implements `TargetModel` and `TellsWhenBegun` of verifier.target over a connection."""

    def __init__(
        self,
        framed: FramedSocket[ToVerifier],
        facts: Facts,
        round_deadline_seconds: Callable[[Round], float],
    ) -> None:
        """After the handshake; a round that is later than its deadline loses the worker."""
        self.facts = facts
        self.model_name = facts.subject.model_name
        self.vocab_size = facts.vocab_size
        self.context_tokens = facts.context_tokens
        self.num_blocks = facts.num_blocks
        self.block_tokens = facts.block_tokens
        self._framed = framed
        self._round_deadline_seconds = round_deadline_seconds
        self._sent = SentStreams()
        self._ahead: tuple[Round, bytes] | None = None  # it is sent, but for these bytes
        self.when_begun: Callable[[], None] = lambda: None
        self._lost_because = ""
        self.is_stuck = False  # it is lost because a round was late: its process may never go on

    @property
    def lost_because(self) -> str:
        """Why no round can run any more; empty: it can."""
        return self._lost_because

    def send_ahead(self, round_: Round) -> bool:
        """Send the round that `run` is given next, as far as it goes at once; whether that is all.

        For the thread that has made it. Another one would wake up first and fetch all that the
        round holds anew: the worker begins 0.5 ms later (64 streams, 2 cores, 2026-11).
        """
        frame = self._framed.frame(pack_round(round_, self._sent))
        rest = self._framed.send_at_once(frame)
        self._ahead = round_, rest
        return not rest and not _masks_of(round_)

    def run(self, round_: Round) -> RoundOutcome:
        """Run one round; see `TargetModel.run`.

        Raises:
            TargetLost: the connection is over; the worker may be, too.
            OutOfMemory: there.
            RoundFailed: the target raised something else there.
        """
        if self._lost_because:
            raise TargetLost(self._lost_because)
        deadline = time.monotonic() + self._round_deadline_seconds(round_)
        try:
            answer = self._ask(round_, deadline)
        except (LinkLost, RemoteProtocolError) as error:
            self.is_stuck = isinstance(error, TooLate)
            self.close(str(error))
            raise TargetLost(self._lost_because) from None
        if isinstance(answer, RoundOutcome):
            return answer
        if answer.cause == "device":
            self.close(f"its device is lost: {answer.sentence}")
            raise TargetLost(self._lost_because)
        if answer.cause == "memory":
            raise OutOfMemory(answer.sentence)
        raise RoundFailed(answer.sentence)

    def is_lost(self) -> bool:
        """Whether the worker has left while no round runs; from any thread."""
        return bool(self._lost_because) or self._framed.is_lost()

    def end_worker(self, because: str) -> None:
        """Let the worker's process end; no round may run then or later.

        Raises:
            LinkLost: it has gone already.
        """
        self._framed.send(Leave(), CONNECT_SECONDS)
        self.close(because)

    def close(self, because: str) -> None:
        """No round runs here any more; the worker waits for the next verifier."""
        if not self._lost_because:
            self._lost_because = because
            self._framed.shut_down()
            self._framed.close()

    def _ask(self, round_: Round, deadline: float) -> RoundOutcome | Failed:
        masks = _masks_of(round_)
        if self._ahead is None:
            self.send_ahead(round_)
        assert self._ahead is not None, "it was sent ahead just now"
        (ahead, rest), self._ahead = self._ahead, None
        assert ahead is round_, "another round was sent ahead"
        if rest:
            self._framed.send_frame(rest, _left(deadline))
        self.when_begun()
        for mask in masks:
            mask.begin()
        answer = self._framed.receive(_left(deadline))
        if masks and isinstance(answer, MasksWanted):
            until = min(time.monotonic() + MOST_WAIT_SECONDS, deadline)
            content = pack_masks(masks, until, num_mask_words(self.vocab_size))
            self._framed.send(content, _left(deadline))
            answer = self._framed.receive(_left(deadline))
        if isinstance(answer, WireOutcome):
            return unpack_outcome(answer, round_, self.vocab_size)
        if isinstance(answer, Failed):
            return answer
        raise RemoteProtocolError(f"a {type(answer).__name__} came instead of an outcome")


def connect(
    address: WorkerAddress,
    secret: str,
    round_deadline_seconds: Callable[[Round], float],
    started_at: int = 0,
    check: Callable[[RemoteTarget], None] = lambda target: None,
    is_loading: Callable[[], bool] | None = None,
) -> RemoteTarget:
    """The target of the worker at an address; verifiers that were started earlier lose it.

    This one was at `started_at`, in milliseconds since 1970. A socket takes connections before its
    worker has loaded: with `is_loading` it is waited for as long as that says so.

    Raises:
        ModelError: `check` refuses it.
        LinkLost: nothing answers there now.
        AuthRejected, HandshakeRejected: it has another secret, version or verifier.
        RemoteProtocolError: it is no worker.
    """
    try:
        connected = socket.create_connection(address, CONNECT_SECONDS)
    except OSError as error:
        raise LinkLost(f"no worker answers at {address}: {error.strerror or error}") from None
    framed = at_verifier(connected)
    try:
        while is_loading is not None and not framed.has_arrived(LOOK_SECONDS):
            if not is_loading():
                raise LinkLost(f"the worker at {address} does not load any more")
        facts = greet_worker(framed, secret, started_at)
    except BaseException:
        framed.close()
        raise
    target = RemoteTarget(framed, facts, round_deadline_seconds)
    try:
        check(target)
    except ModelError as error:
        target.close(str(error))
        raise
    return target


def _masks_of(round_: Round) -> list[TokenMasks]:
    """Those that are made while the round is on its way."""
    checks = [item.draft_check for item in round_.items if item.draft_check is not None]
    return [check.masks for check in checks if check.masks is not None]


def _left(deadline: float) -> float:
    # Never 0, which would mean not to wait at all for what is there already.
    return max(deadline - time.monotonic(), 1e-3)
