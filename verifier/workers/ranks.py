"""The processes of one worker whose target is split over several GPUs: rank 0 and those it starts.

Rank 0 is the worker for all others: it is reached, answers, and sends each round on as it came. The
ranks wait for each other inside of a forward pass, where no error reaches them, so one that ends
or hangs ends all: the worker is lost, which its verifier knows how to live with. This module must
never know what a target is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, Protocol

from shared.errors import LinkLost
from verifier.target.rank_place import RankPlace
from verifier.target.round import Round
from verifier.target.target import TargetModel
from verifier.workers.frames import at_verifier, at_worker
from verifier.workers.known_tables import KnownRuns, KnownTables
from verifier.workers.messages import Masks, WireRound
from verifier.workers.orders import WorkerOrder, pack_order
from verifier.workers.remote_masks import RoundMasks, num_mask_words
from verifier.workers.round_packing import pack_round, unpack_round

logger = logging.getLogger(__name__)

SEND_SECONDS = 10.0
END_SECONDS = 5.0
# A first round compiles kernels and captures graphs: some seconds. Later ones have the deadline of
# the verifier, which ends the worker much sooner.
HANG_SECONDS = 120.0
LOST_STATUS = 3  # of rank 0 when another one is gone


class FollowingTarget(TargetModel, Protocol):
    """A rank's part of a target."""

    def follow(self, round_: Round) -> None:
        """Do this rank's part in a round that rank 0 runs."""
        ...


class RankProcesses:
    """The other ranks, as rank 0 sees them; `tell` is for the thread that runs rounds."""

    def __init__(
        self,
        num_ranks: int,
        command: Sequence[str],
        order: WorkerOrder,
        environment: Mapping[str, str],
        when_lost: Callable[[int], None] | None = None,
    ) -> None:
        """Start them; they load while rank 0 does.

        Args:
            num_ranks: with rank 0.
            command: gets the number of its socket, its rank, `num_ranks` and a port behind it.
            order: what each is to load.
            environment: of each process.
            when_lost: gets the rank that has ended by itself; without it this process ends.
        """
        self._known_runs = KnownRuns()
        self._when_lost = when_lost or _end
        self._is_closing = False
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._sockets: list[socket.socket] = []
        for rank in range(1, num_ranks):
            ours, theirs = socket.socketpair()
            numbers = [theirs.fileno(), rank, num_ranks, port]
            with theirs:
                process = subprocess.Popen(
                    [*command, *map(str, numbers)],
                    stdin=subprocess.PIPE,
                    pass_fds=[theirs.fileno()],
                    env=dict(environment),
                )
            self._processes.append(process)
            self._sockets.append(ours)
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(pack_order(order))
        self._framed = [at_verifier(ours) for ours in self._sockets]
        self.place = RankPlace(0, num_ranks, port, listening.detach(), self.tell)
        self._watch = threading.Thread(target=self._wait, name="goodspeed-ranks", daemon=True)
        self._watch.start()

    @property
    def process_ids(self) -> list[int]:
        """Of ranks 1 and up."""
        return [process.pid for process in self._processes]

    def tell(self, round_: Round) -> None:
        """Give all other ranks a round, which they begin at once.

        Raises:
            LinkLost: one is gone.
        """
        message = pack_round(round_, self._known_runs)
        for framed in self._framed:
            framed.send(message, SEND_SECONDS)

    def close(self) -> None:
        """End the processes; no round runs."""
        self._is_closing = True
        for framed in self._framed:
            framed.shut_down()
        self._watch.join()
        for process, framed in zip(self._processes, self._framed, strict=True):
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            framed.close()

    def _wait(self) -> None:
        """Until one ends, or `close`."""
        ends = select.poll()
        numbers = [ours.fileno() for ours in self._sockets]
        for number in numbers:
            ends.register(number, select.POLLRDHUP)
        ended, _ = ends.poll()[0]
        if not self._is_closing:
            self._when_lost(numbers.index(ended) + 1)


def end_at_once(status: int) -> NoReturn:
    """End a rank: at a usual end NCCL may wait for the others for ever (pytorch#115388)."""
    logging.shutdown()
    os._exit(status)


def _end(rank: int) -> NoReturn:
    logger.error("rank %d of this worker has ended, so all of it ends", rank)
    end_at_once(LOST_STATUS)


def place_of(arguments: Sequence[str]) -> tuple[socket.socket, RankPlace]:
    """Of a process that `RankProcesses` started, by the end of its command line."""
    number, rank, num_ranks, port = map(int, arguments)
    return socket.socket(fileno=number), RankPlace(rank, num_ranks, port)


def end_with_rank_0(connected: socket.socket) -> None:
    """Be ended by rank 0 alone, by the end of this socket: at once, whatever is going on here.

    Signals to all processes of a terminal or a unit are for rank 0, which finishes its round first.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    def wait() -> None:
        end = select.poll()
        end.register(connected.fileno(), select.POLLRDHUP)
        end.poll()
        os._exit(0)

    threading.Thread(target=wait, name="goodspeed-rank-0-watch", daemon=True).start()


def follow(connected: socket.socket, target: FollowingTarget) -> None:
    """Do this rank's part of all rounds until rank 0 ends.

    Raises:
        Exception: whatever the target raises, after which this process must end.
    """
    framed = at_worker(connected)
    tables = KnownTables(target.num_blocks)
    masks = RoundMasks(_no_masks, num_mask_words(target.vocab_size))
    hang = _HangWatch()
    while True:
        try:
            message = framed.receive(None)
        except LinkLost:
            return
        assert isinstance(message, WireRound), "rank 0 sends rounds"
        round_ = unpack_round(message, target, masks.at, tables)
        with hang:
            target.follow(round_)


def _no_masks() -> Masks:
    raise AssertionError("only rank 0 draws tokens")


class _HangWatch:
    """Ends the process where what is done inside of it takes too long; for one thread."""

    def __init__(self) -> None:
        self._started_at: float | None = None
        threading.Thread(target=self._wait, name="goodspeed-hang-watch", daemon=True).start()

    def __enter__(self) -> None:
        self._started_at = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._started_at = None

    def _wait(self) -> None:
        while True:
            time.sleep(HANG_SECONDS / 100)
            started_at = self._started_at
            if started_at is not None and time.monotonic() - started_at > HANG_SECONDS:
                logger.error("a round takes longer than %.0f s, so this rank ends", HANG_SECONDS)
                end_at_once(LOST_STATUS)
