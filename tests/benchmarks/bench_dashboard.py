"""What the dashboard costs a verifier of many devices: one page that asks every second.

The devices have a stream each whose estimates are full, but no round runs: what is measured is the
dashboard alone. The page asks from a process of its own.

    python -m tests.benchmarks.bench_dashboard --devices 1000 --seconds 20
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time

import verifier.server.server
from tests.support.ends.loopback import running_verifier
from tests.support.ends.planning import make_stream
from tests.support.ends.scripted import scripted_service
from verifier.engine.service import VerifierService
from verifier.web.state_reading import encode_state

TICK_SECONDS = 0.001
_ASKING = """
import sys, time, urllib.error, urllib.request
url, seconds, tag = sys.argv[1], float(sys.argv[2]), ""
until = time.monotonic() + seconds
while time.monotonic() < until:
    try:
        asked = urllib.request.Request(url, headers={"If-None-Match": tag})
        with urllib.request.urlopen(asked) as answer:
            answer.read()
            tag = answer.headers["ETag"]
    except urllib.error.HTTPError as error:
        assert error.code == 304, error
    time.sleep(1)
"""


def fill(service: VerifierService, num_devices: int) -> None:
    """Devices with a stream each, of which every second one drafts."""
    streams = []
    for number in range(num_devices):
        device = service.device(f"board-{number:04}")
        estimates = device.estimates
        estimates.goodput.observe_round(3, 0.03)
        estimates.speed.observe_drafting(4, 0.2)
        estimates.speed.observe_round_trip(0.01)
        for num_accepted in range(9):
            for num_rejected in (0, 1):
                estimates.positions.observe(num_accepted, num_rejected)
        stream = make_stream(
            number, device=device.name, device_estimates=estimates, max_output_tokens=100
        )
        stream.is_arriving = True  # so that no round begins
        service.planner.add(stream)
        streams.append(stream)
    service.planner.admission.admit(0, 0.0)
    for stream in streams[::2]:
        stream.draft_length, stream.window = 4, 9


async def ticks(seconds: float) -> list[float]:
    """By how much each tick came late, in seconds."""
    loop = asyncio.get_running_loop()
    late, began_at = [], loop.time()
    while loop.time() - began_at < seconds:
        asked_at = loop.time()
        await asyncio.sleep(TICK_SECONDS)
        late.append(loop.time() - asked_at - TICK_SECONDS)
    return late


async def part_of_a_core(seconds: float) -> float:
    """What the loop takes by itself: ticks of our own would take more than the page."""
    began_at, busy = time.monotonic(), time.thread_time()
    await asyncio.sleep(seconds)
    return (time.thread_time() - busy) / (time.monotonic() - began_at)


async def measure(num_devices: int, seconds: float) -> None:
    """Print what the loop and the thread beside it needed, without the page and with it."""
    service = scripted_service(num_blocks=4 * num_devices)
    fill(service, num_devices)
    made: list[float] = []

    def timed(of: VerifierService, now: float) -> bytes:
        began_at = time.thread_time()
        body = encode_state(of, now)
        made.append(time.thread_time() - began_at)
        return body

    verifier.server.server.encode_state = timed
    async with running_verifier(service, ("kitchen",)) as running:
        await ticks(1.0)
        idle, idle_late = await part_of_a_core(seconds), await ticks(seconds)
        url = f"http://127.0.0.1:{running.port}/dashboard/state"
        page = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _ASKING, url, str(2 * seconds)
        )
        busy, late = await part_of_a_core(seconds), await ticks(seconds)
        assert 0 == await page.wait()
    seconds *= 2
    print(f"{num_devices} devices, a page that asks every second for {seconds:.0f} s")
    print(
        f"made {len(made)} times, {1e3 * statistics.median(made):.1f} ms of a core each "
        f"({1e3 * min(made):.1f} to {1e3 * max(made):.1f}): {1e3 * sum(made) / seconds:.1f} ms "
        "a second, in a thread"
    )
    print(f"the loop's own thread: {1e3 * (busy - idle):.1f} ms a second more than without a page")
    for name, values in (("without", idle_late), ("with", late)):
        values.sort()
        print(
            f"ticks {name} a page come late by {1e3 * values[len(values) // 2]:.2f} ms (median), "
            f"{1e3 * values[int(0.999 * len(values))]:.2f} ms (99.9 %), {1e3 * values[-1]:.2f} ms"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    asyncio.run(measure(options.devices, options.seconds))
