"""The processes of one worker whose target is split over several GPUs: rank 0 and those it starts.

Rank 0 is the worker for all others: it is reached, answers, and sends each round on as it came. The
ranks wait for each other inside of a forward pass, where no error reaches them, so one that ends
or hangs ends all: the worker is lost, which its verifier knows how to live with. This module must
never know what a target is.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from verifier.target.rank_place import RankPlace
from verifier.target.round import Round
from verifier.workers.frames import at_verifier
from verifier.workers.known_streams import SentStreams
from verifier.workers.orders import WorkerOrder, pack_order
from verifier.workers.ranks.following import LOST_STATUS, end_at_once
from verifier.workers.round_packing import pack_round

logger = logging.getLogger(__name__)

SEND_SECONDS = 10.0
END_SECONDS = 5.0


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
        self._sent = SentStreams()
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
        message = pack_round(round_, self._sent)
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


def _end(rank: int) -> NoReturn:
    logger.error("rank %d of this worker has ended, so all of it ends", rank)
    end_at_once(LOST_STATUS)
