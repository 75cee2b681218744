"""What a message costs the verifier's process, with and without doors: no round runs.

Boards in a process of their own send drafts at an even pace, for a stream that has ended, then the
verifier sends each a message at the same pace; processor time is that of the verifier's process
alone, less what it takes while all are silent. Ratios hold on a busy machine, too.

    python -m tests.benchmarks.bench_doors --doors 0 1 2
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

import aiohttp
import uvloop

from shared.protocol.codec import encode
from shared.protocol.messages import Draft, GoingAway, Hello, Open
from shared.protocol.transport import BOARD_FRAME_HEADER_BYTES
from shared.speculation.sampling import GREEDY
from tests.support.ends.loopback import Verifier, running_verifier
from tests.support.ends.raw_board import DEVICE_PATH, hello_to
from tests.support.ends.scripted import scripted_service
from tests.support.ends.waiting import eventually

TICK_SECONDS = 0.02
OPENED = encode(Open(0, 0, text="x", sampling=GREEDY, max_tokens=1))
SAID = encode(Draft(0, 0, 0, b""))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one row for each number of doors, as often as it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--doors", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--boards", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each way")
    options = parser.parse_args(arguments)
    print("| doors | messages in | us of the verifier for each | out | us for each |")
    print("|---|---|---|---|---|")
    for num_doors in options.doors:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            row = runner.run(_measure(num_doors, options.boards, options.seconds))
        print(f"| {num_doors} | {' | '.join(row)} |", flush=True)


async def _measure(num_doors: int, num_boards: int, seconds: float) -> list[str]:
    names = [f"board-{number}" for number in range(num_boards)]
    service = scripted_service()
    async with running_verifier(service, names, num_doors=num_doors) as verifier:
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        boards = multiprocessing.get_context("spawn").Process(
            target=_play, args=(theirs, verifier.url, dict(verifier.tokens), hello_to(verifier))
        )
        boards.start()
        try:
            await eventually(lambda: _num_finished(verifier) == num_boards, 120.0)
            silent = await _core_seconds(seconds)
            ours.send(seconds)
            num_in = _num_received(verifier)
            busy_in = await _core_seconds(seconds)
            num_in = _num_received(verifier) - num_in
            ours.poll(10.0)
            busy_out, num_out = await _send_to_all(verifier, names, seconds)
        finally:
            boards.terminate()
            boards.join()
    rows = ((num_in, busy_in), (num_out, busy_out))
    return [cell for n, busy in rows for cell in (str(n), f"{1e6 * (busy - silent) / n:.1f}")]


async def _core_seconds(seconds: float) -> float:
    """What this process takes of a core in so long."""
    before = _used()
    await asyncio.sleep(seconds)
    return _used() - before


async def _send_to_all(
    verifier: Verifier, names: Sequence[str], seconds: float
) -> tuple[float, int]:
    before, count, until = _used(), 0, time.monotonic() + seconds
    message = GoingAway(1.0)
    while time.monotonic() < until:
        for name in names:
            outbox = verifier.service.device(name).outbox
            assert outbox is not None
            outbox.send(message)
            count += 1
        verifier.service.delivered()
        await asyncio.sleep(TICK_SECONDS)
    return _used() - before, count


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _num_finished(verifier: Verifier) -> float:
    value = verifier.service.metrics.registry.get_sample_value
    return value("goodspeed_streams_finished_total", {"reason": "length"}) or 0.0


def _num_received(verifier: Verifier) -> int:
    """Messages of all boards; all of them are as long as the one that they repeat."""
    value = verifier.service.metrics.registry.get_sample_value
    labels = [{"device": name, "direction": "received"} for name in verifier.tokens]
    num_bytes = sum(value("goodspeed_wire_bytes_total", one) or 0.0 for one in labels)
    return round(num_bytes / (len(SAID) + BOARD_FRAME_HEADER_BYTES))


def _play(pipe: Connection, url: str, tokens: dict[str, str], hello: Hello) -> None:
    uvloop.run(_boards(pipe, url, tokens, hello))


async def _boards(pipe: Connection, url: str, tokens: dict[str, str], hello: Hello) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        sockets = []
        for token in tokens.values():
            headers = {"Authorization": f"Bearer {token}"}
            socket = await session.ws_connect(url + DEVICE_PATH, headers=headers)
            await socket.send_bytes(encode(hello))
            await socket.send_bytes(OPENED)
            sockets.append(socket)
        reading = [asyncio.create_task(_read(socket)) for socket in sockets]
        seconds = await asyncio.to_thread(pipe.recv)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for socket in sockets:
                await socket.send_bytes(SAID)
            await asyncio.sleep(TICK_SECONDS)
        pipe.send(None)
        await asyncio.gather(*reading)


async def _read(socket: aiohttp.ClientWebSocketResponse) -> None:
    async for _ in socket:
        pass


if __name__ == "__main__":
    main()
