"""Verdicts of a board beside a flood of wrong tokens: `python -m tests.benchmarks.bench_strangers`.

The flood comes from a process of its own, on eight connections that send 20 requests at a time, or
on a new one for each; with the limits of strangers and without. Rounds take 1 ms or more.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import uvloop

from shared.daemon.strangers import STRANGER_LIMITS, StrangerLimits
from shared.protocol.messages import Cancel, Verdict
from tests.support.ends.loopback import running_verifier
from tests.support.ends.raw_board import RawBoard, raw_board
from tests.support.ends.scripted import scripted_service

QUIET_SECONDS, FLOOD_SECONDS = 2.0, 5.0
FLOOD = """
import socket, sys, threading, time
port, keeps, until = int(sys.argv[1]), sys.argv[2] == "keep", time.time() + float(sys.argv[3])
token = "gsd_board_" + "A" * 43
head = ("GET /v1/device HTTP/1.1", "Host: x", f"Authorization: Bearer {token}", "", "")
request = "\\r\\n".join(head).encode()
def flood():
    while time.time() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as one:
                one.settimeout(1)
                one.sendall(request)
                while keeps and time.time() < until:
                    one.sendall(request * 20)
                    if not one.recv(65536):
                        break
        except OSError:
            pass
threads = [threading.Thread(target=flood) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


async def verdicts_per_second(board: RawBoard, channel: int, seconds: float) -> float:
    await board.open(channel=channel, max_tokens=4000)
    began_at, num_verdicts = time.monotonic(), 0
    while time.monotonic() - began_at < seconds:
        await board.next_of(Verdict)
        num_verdicts += 1
    await board.send(Cancel(channel))
    return num_verdicts / seconds


async def measure(kind: str, limits: StrangerLimits | None) -> None:
    service = scripted_service(delay_seconds=lambda _: 0.001)
    async with (
        running_verifier(service, stranger_limits=limits) as verifier,
        raw_board(verifier, "board") as board,
    ):
        before = await verdicts_per_second(board, 0, QUIET_SECONDS)
        command = [sys.executable, "-c", FLOOD, str(verifier.port), kind, str(FLOOD_SECONDS)]
        flood = subprocess.Popen(command)  # noqa: ASYNC220 - it takes a millisecond
        await asyncio.sleep(1)
        beside = await verdicts_per_second(board, 1, FLOOD_SECONDS - 2)
        await asyncio.to_thread(flood.wait)
        value = service.metrics.registry.get_sample_value
        tried = value("goodspeed_rejected_messages_total", {"reason": "token"}) or 0
    named = f"{kind:4} {'with' if limits else 'without'} limits"
    print(f"{named}: {before:.0f} verdicts/s, {beside:.0f} beside it; {tried:.0f} tokens looked at")


def main() -> None:
    """Print a line for each flood."""
    for kind in ("keep", "new"):
        for limits in (None, STRANGER_LIMITS):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(measure(kind, limits))


if __name__ == "__main__":
    main()
