"""A door's process, seen from the verifier: started, watched, ended, started anew.

This module must never know what a message means.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

import msgspec

from shared.errors import LinkLost
from verifier.doors.batch_link import BatchLink, connect_link
from verifier.doors.door_socket import Accounts, DoorSocket
from verifier.doors.inward import Inward
from verifier.doors.traffic import THE_DOOR, Arrival, Entry, FromDoor, ToDoor

logger = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "verifier.doors.door_program")
# Until a door serves; it imports aiohttp (2 busy cores, 2026-11: 1 s).
START_SECONDS = 60.0
# How often a door is asked whether it is alive, and how often it may miss.
BEAT_SECONDS = 1.0
MOST_MISSED_BEATS = 10
# A door that takes nothing: what waits for it takes the verifier's memory.
MOST_WAITING_BYTES = 64 << 20
# Before a door that ended soon after its start is started again.
PAUSE_SECONDS = (0.1, 1.0, 5.0)
HEALTHY_SECONDS = 10.0
# A door that was told to end gets this long; its last websockets linger for a farewell.
END_SECONDS = 5.0
# Until the 101 of an upgrade is on its way, and until the door has room for one more arrival.
HAND_OVER_SECONDS = 1.0
_PAUSE_SECONDS = 0.005


class KeptDoor:
    """One door; `keep` runs as long as the verifier does."""

    def __init__(
        self,
        name: str,
        postpones: Callable[[Callable[[], None]], bool],
        command: Sequence[str] = COMMAND,
    ) -> None:
        """`postpones`: see `Inward`."""
        self.name = name
        self.num_messages = self.num_bytes = 0  # that came through it
        self.num_lost = 0  # times that it was
        self._command = tuple(command)
        self._numbers = itertools.count(THE_DOOR + 1)
        self._sockets: dict[int, DoorSocket] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._link: BatchLink | None = None
        self._arrivals: socket.socket | None = None
        self._inward = Inward(self._hand_on, postpones, self._stand_still)
        self._num_missed = 0
        self._is_alive = asyncio.Event()
        self._is_lost = asyncio.Event()
        self._is_closing = False

    @property
    def is_open(self) -> bool:
        """Whether it takes websockets now."""
        return self._is_alive.is_set() and not self._is_lost.is_set() and not self._is_closing

    @property
    def num_connections(self) -> int:
        """Websockets that it holds, or is about to."""
        return len(self._sockets)

    @property
    def process_id(self) -> int | None:
        """Of the process that runs, if one does."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the process, and wait until it serves.

        Raises:
            LinkLost: it does not.
            OSError: there can be no process.
        """
        try:
            await self._start()
        except BaseException:
            await self._end()
            raise

    async def _start(self) -> None:
        link_ends = socket.socketpair()
        arrival_ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        numbers = [end[1].fileno() for end in (link_ends, arrival_ends)]
        self._is_alive, self._is_lost, self._num_missed = asyncio.Event(), asyncio.Event(), 0
        try:
            self._process = _spawn([*self._command, *map(str, numbers)], numbers)
        finally:
            link_ends[1].close()
            arrival_ends[1].close()
        self._arrivals = arrival_ends[0]
        self._arrivals.setblocking(False)
        self._link = BatchLink(link_ends[0], self._take, self._is_lost.set)
        await connect_link(self._link, link_ends[0])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS):
                await _first_of(self._is_alive, self._is_lost)
        if not self._is_alive.is_set():
            status = await self._end()
            raise LinkLost(f"{self.name} ended with status {status} before it served")
        logger.info("%s serves as process %d", self.name, self._process.pid)

    async def keep(self) -> None:
        """Start it again whenever it is lost; call `start` first, and cancel this to end it."""
        loop, num_short = asyncio.get_running_loop(), 0
        while True:
            started_at = loop.time()
            await self._watch()
            self.num_lost += 1
            status = await self._end()
            logger.warning("%s is lost, with status %s: its boards come back", self.name, status)
            num_short = 0 if loop.time() - started_at > HEALTHY_SECONDS else num_short + 1
            while not await self._is_started_again(num_short):
                num_short += 1

    async def _is_started_again(self, num_short: int) -> bool:
        await asyncio.sleep(PAUSE_SECONDS[min(num_short, len(PAUSE_SECONDS) - 1)])
        try:
            await self.start()
        except (LinkLost, OSError) as error:
            logger.warning("%s does not start: %s", self.name, error)
            return False
        return True

    async def stop(self) -> None:
        """End the process; it has few websockets left, if any."""
        self._is_closing = True
        if self._link is not None:
            self._link.close()
        self._is_lost.set()
        await self._end()

    @contextlib.contextmanager
    def socket(
        self,
        heartbeat_seconds: float,
        farewell_seconds: float,
        max_queued_bytes: int,
        max_frame_bytes: int,
        accounts: Accounts,
    ) -> Iterator[DoorSocket]:
        """A websocket that will be handed over, for as long as there is one."""
        number = next(self._numbers)
        limits = heartbeat_seconds, farewell_seconds, max_queued_bytes, max_frame_bytes
        door_socket = DoorSocket(Arrival(number, *limits), self.tell, accounts)
        self._sockets[number] = door_socket
        try:
            yield door_socket
        finally:
            self._sockets.pop(number, None)

    def tell(self, entry: Entry) -> None:
        """Say something with the next batch; nothing where the door is lost."""
        if self._link is not None:
            self._link.put(entry)

    def flush(self) -> None:
        """Send the next batch now."""
        if self._link is not None:
            self._link.flush()

    async def hand_over(self, door_socket: DoorSocket, transport: asyncio.Transport) -> None:
        """Give a websocket to the door; `transport`, which reads nothing, is aborted.

        Raises:
            ConnectionError: it could not be.
        """
        deadline = asyncio.get_running_loop().time() + HAND_OVER_SECONDS
        while not self._is_handed_over(door_socket.arrival, transport):
            if door_socket.is_ended or asyncio.get_running_loop().time() > deadline:
                raise ConnectionResetError(f"{self.name} could not take a connection")
            await asyncio.sleep(_PAUSE_SECONDS)
        transport.abort()  # closes this process's descriptor of it, and says nothing to the board

    def _is_handed_over(self, arrival: Arrival, transport: asyncio.Transport) -> bool:
        is_known = arrival.number in self._sockets  # not of a process that was here before
        if not (self.is_open and is_known) or transport.is_closing() or self._arrivals is None:
            raise ConnectionResetError("the connection ended before it was handed over")
        if transport.get_write_buffer_size():
            return False
        number = transport.get_extra_info("socket").fileno()
        try:
            socket.send_fds(self._arrivals, [msgspec.msgpack.encode(arrival)], [number])
        except BlockingIOError:
            return False
        return True

    def _take(self, batch: list[Entry]) -> None:
        self._num_missed = 0
        self._inward.take(batch)

    def _stand_still(self, is_still: bool) -> None:
        if self._link is not None:
            (self._link.pause_reading if is_still else self._link.resume_reading)()

    def _hand_on(self, number: int, kind: int, amount: int, content: bytes) -> None:
        if number == THE_DOOR:
            self._is_alive.set()
            return
        if kind == FromDoor.MESSAGE:
            self.num_messages += 1
            self.num_bytes += len(content)
        door_socket = self._sockets.get(number)
        if door_socket is not None:
            door_socket.hear(kind, amount, content)

    async def _watch(self) -> None:
        """Until it is lost, or does not answer."""
        while not self._is_lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._is_lost.wait()
            waiting = 0 if self._link is None else self._link.num_waiting_bytes
            if self._num_missed > MOST_MISSED_BEATS or waiting > MOST_WAITING_BYTES:
                logger.warning("%s does not answer", self.name)
                return
            self._num_missed += 1
            self.tell((THE_DOOR, ToDoor.ASK, 0, b""))

    async def _end(self) -> int | None:
        """No process any more, and no websocket; the status that it ended with."""
        self._is_lost.set()
        if self._link is not None and not self._is_closing:
            self._link.abort()
        self._link = None
        self._inward.clear()
        if self._arrivals is not None:
            self._arrivals.close()
            self._arrivals = None
        sockets, self._sockets = self._sockets, {}
        for door_socket in sockets.values():
            door_socket.lose()
        process, self._process = self._process, None
        if process is None:
            return None
        if not self._is_closing:
            process.kill()
        return await asyncio.to_thread(_wait, process)


def _spawn(command: Sequence[str], inherited: Sequence[int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=inherited)


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


async def _first_of(*events: asyncio.Event) -> None:
    tasks = [asyncio.create_task(event.wait(), name="door-event") for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
