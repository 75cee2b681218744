"""The processes of ranks 1 and up: each does its part of the rounds that rank 0 sends, and ends.

Inside of a forward pass the ranks wait for each other, and no error reaches them there, so threads
watch: a rank ends when rank 0 has, or when a round takes too long.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Sequence
from typing import NoReturn, Protocol

from shared.errors import LinkLost
from verifier.target.rank_place import RankPlace
from verifier.target.round import Round
from verifier.target.target import TargetModel
from verifier.workers.frames import at_worker
from verifier.workers.known_streams import ReadStreams
from verifier.workers.messages import Masks, WireRound
from verifier.workers.remote_masks import RoundMasks, num_mask_words
from verifier.workers.round_packing import unpack_round

logger = logging.getLogger(__name__)

# A first round compiles kernels and captures graphs: some seconds. Later ones have the deadline of
# the verifier, which ends the worker much sooner.
HANG_SECONDS = 120.0
LOST_STATUS = 3  # of a rank that ends because another one does not go on


class FollowingTarget(TargetModel, Protocol):
    """A rank's part of a target."""

    def follow(self, round_: Round) -> None:
        """Do this rank's part in a round that rank 0 runs."""
        ...


def end_at_once(status: int) -> NoReturn:
    """End a rank: at a usual end NCCL may wait for the others for ever (pytorch#115388)."""
    logging.shutdown()
    os._exit(status)


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
    read = ReadStreams(target.num_blocks)
    masks = RoundMasks(_no_masks, num_mask_words(target.vocab_size))
    hang = _HangWatch()
    while True:
        try:
            message = framed.receive(None)
        except LinkLost:
            return
        assert isinstance(message, WireRound), "rank 0 sends rounds"
        round_ = unpack_round(message, target, masks.at, read)
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
