"""What an honest board notices of an abuser: `python -m tests.benchmarks.bench_abuse`.

A verifier with a scripted target (20 ms a round) and an honest board in this process, an abuser in
another one.  A row is the time between two verdicts of the honest board's one stream, beside one
kind of abuse; `none` comes first and last.  Verifier and abuser need a core each.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np
import uvloop

from shared.protocol.codec import encode
from shared.protocol.messages import Cancel, Hello, Open, Ready, Status, Verdict
from shared.speculation.sampling import GREEDY
from tests.support.ends.limits import make_device_limits
from tests.support.ends.loopback import Verifier, running_verifier
from tests.support.ends.raw_board import DEVICE_PATH, hello_to, raw_board
from tests.support.ends.scripted import scripted_service
from tests.support.network.strangers import masked_frame, upgrade

ROUND_SECONDS = 0.02
TICK_SECONDS = 0.005
BINARY, PING, FRAGMENT = 0x82, 0x89, 0x00


# --- the abuser ---------------------------------------------------------------------------------


def status_frames(per_second: float) -> Iterator[bytes]:
    frame = masked_frame(BINARY, encode(Status(5)))
    while True:
        yield frame * max(int(per_second * TICK_SECONDS), 1)


def pings() -> Iterator[bytes]:
    while True:
        yield masked_frame(PING, b"") * 90


def fragments() -> Iterator[bytes]:
    yield masked_frame(0x02, b"")
    while True:
        yield masked_frame(FRAGMENT, b"") * 12_000


def opens(text: str, per_tick: int) -> Iterator[bytes]:
    channel = 0
    while True:
        frames = []
        for _ in range(per_tick):
            frames.append(_long_frame(encode(Open(channel, channel, text=text, sampling=GREEDY))))
            frames.append(masked_frame(BINARY, encode(Cancel(channel))))
            channel += 1
        yield b"".join(frames)


def ready_for_one_stream() -> Iterator[bytes]:
    yield masked_frame(BINARY, encode(Open(0, 0, text="x", sampling=GREEDY, max_tokens=4000)))
    time.sleep(0.2)
    while True:
        yield masked_frame(BINARY, encode(Ready(0))) * 90


def _long_frame(payload: bytes) -> bytes:
    if len(payload) < 65_536:
        return masked_frame(BINARY, payload)
    return bytes((BINARY, 0xFF)) + len(payload).to_bytes(8, "big") + bytes(4) + payload


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "Status, 18,000 a second": lambda: status_frames(18_000),
    "Status, as fast as it goes": lambda: status_frames(1_000_000),
    "Ready, 18,000 a second": ready_for_one_stream,
    "pings, 18,000 a second": pings,
    "empty fragments, 14 MB a second": fragments,
    "Open and Cancel, 800 a second": lambda: opens("a short prompt", 4),
    "Open with 60 kB of text, 12 MB a second": lambda: opens("x" * 60_000, 1),
}


def abuse(name: str, port: int, token: str, fingerprint: str, vocab_size: int) -> None:
    """Flood until the verifier has enough, then come back, for ever."""
    hello = Hello(1, "0", "abuser", vocab_size, bytes.fromhex(fingerprint), 4096)
    head = upgrade(DEVICE_PATH, f"Authorization: Bearer {token}")
    while True:
        with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)) as wire:
            wire.sendall(head + masked_frame(BINARY, encode(hello)))
            threading.Thread(target=_read_all, args=(wire,), daemon=True).start()
            next_at = time.monotonic()
            for chunk in FLOODS[name]():
                wire.sendall(chunk)
                next_at += TICK_SECONDS
                time.sleep(max(next_at - time.monotonic(), 0.0))
        time.sleep(0.05)


def _read_all(wire: socket.socket) -> None:
    with suppress(OSError):
        while wire.recv(65_536):
            pass


# --- the honest board ---------------------------------------------------------------------------


async def gaps(verifier: Verifier, seconds: float) -> list[float]:
    """Seconds between the verdicts of one stream that is open all the time."""
    found: list[float] = []
    async with raw_board(verifier, "good") as board:
        channel, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:
            await board.open(channel, GREEDY, max_tokens=100, draft_length=0)
            last = None
            while True:
                verdict = await board.next_of(Verdict)
                now = time.monotonic()
                if last is not None:
                    found.append(now - last)
                last = now
                if verdict.finish is not None:
                    break
            channel += 1
    return found


async def beside(verifier: Verifier, name: str | None, seconds: float) -> str:
    if name is None:
        return row("none", await gaps(verifier, seconds), verifier)
    service = verifier.service
    arguments = (name, str(verifier.port), verifier.tokens["bad"])
    arguments += (hello_to(verifier).fingerprint.hex(), str(service.target.vocab_size))
    command = (sys.executable, "-m", "tests.benchmarks.bench_abuse", "--abuse", *arguments)
    abuser = await asyncio.create_subprocess_exec(*command)
    try:
        await asyncio.sleep(1.0)  # until it has started
        return row(name, await gaps(verifier, seconds), verifier)
    finally:
        abuser.kill()
        await abuser.wait()


def row(name: str, seconds: list[float], verifier: Verifier) -> str:
    median, slow, slowest = np.percentile(seconds, [50, 99, 100]) * 1e3
    labels = {"device": "bad", "direction": "received"}
    value = verifier.service.metrics.registry.get_sample_value
    taken = (value("goodspeed_wire_bytes_total", labels) or 0.0) / 1e6
    let_go = value("goodspeed_device_limits_exceeded_total", {"device": "bad"}) or 0
    return f"{name:<42} {median:>7.1f} {slow:>7.1f} {slowest:>7.1f} {taken:>9.1f} {let_go:>7.0f}"


async def measure(seconds: float) -> None:
    print(f"{'abuse':<42} {'p50 ms':>7} {'p99 ms':>7} {'max ms':>7} {'taken MB':>9} {'let go':>7}")
    for name in (None, *FLOODS, None):
        service = scripted_service(
            delay_seconds=lambda _: ROUND_SECONDS, max_streams_per_device=8, context_tokens=4096
        )
        limits = make_device_limits(max_streams=8)
        async with running_verifier(service, ("bad", "good"), device_limits=limits) as verifier:
            print(await beside(verifier, name, seconds), flush=True)


def main() -> None:
    """Print one row for each kind of abuse."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each row")
    parser.add_argument("--abuse", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.abuse:
        name, port, token, fingerprint, vocab_size = options.abuse
        abuse(name, int(port), token, fingerprint, int(vocab_size))
        return
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(options.seconds))


if __name__ == "__main__":
    main()
