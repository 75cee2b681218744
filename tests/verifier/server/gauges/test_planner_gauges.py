"""A page of metrics is made in a thread while the event loop goes on with all that it shows."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from shared.daemon.connection_gate import ConnectionGate, GateLimits
from tests.support.ends.limits import make_device_limits
from tests.support.ends.planning import make_planner, make_stream
from verifier.engine.device import Device
from verifier.server.device_limits import DeviceUsage
from verifier.server.gauges.planner_gauges import PlannerGauges, PortGauges
from verifier.server.loop_shares import LoopShares
from verifier.streams.draft_mode import ModeName
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.kept_streams import KeptStreams

SHOWN = b"goodspeed_device_cache_blocks{"  # where a device has streams
NUM_STEPS = 600
MOST = 300


class Verifier:
    """What the gauges look at, changed as an event loop changes it."""

    def __init__(self) -> None:
        self.planner = make_planner(num_blocks=7 * MOST)
        self.devices: dict[str, Device] = {}
        self.usages: dict[str, DeviceUsage] = {}
        self.shares = LoopShares()
        limits = GateLimits(max_idle=4, idle_seconds=1.0, stall_seconds=1.0)
        never = threading.Timer(1.0, print)
        gate = ConnectionGate(object, lambda *_: never, lambda: 0.0, limits)
        self.registry = CollectorRegistry()
        self.registry.register(PlannerGauges(self.planner, self.devices))
        self.registry.register(PortGauges(gate, self.usages, self.shares))

    def play(self, number: int) -> None:
        """A device comes with a stream that gets a place and one that waits, and others leave."""
        now = float(number)
        name = f"board-{number}"
        self.devices[name] = Device(name, DeviceEstimates(), KeptStreams(4))
        self.usages[name] = DeviceUsage(make_device_limits(), now)
        self.shares.spend(name, 1e-3, now)
        for i in range(2):
            self.planner.add(make_stream(2 * number + i, device=name))
        self.planner.admission.admit(number, now)
        for streams in (self.planner.streams, self.planner.queue):
            if len(streams) > MOST:
                self.planner.discard(next(iter(streams.values())))


@contextmanager
def threads_in_turns_of(seconds: float) -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def test_a_page_is_made_whatever_comes_and_goes_meanwhile() -> None:
    verifier = Verifier()
    is_over = threading.Event()
    pages: list[bytes] = []
    failures: list[Exception] = []

    def make_pages() -> None:
        while not is_over.is_set() and not failures:
            try:
                pages.append(generate_latest(verifier.registry))
            except Exception as error:  # noqa: BLE001 (whatever it is, it is one too many)
                failures.append(error)

    thread = threading.Thread(target=make_pages)
    with threads_in_turns_of(1e-6):
        thread.start()
        for number in range(50 * NUM_STEPS):  # on a full machine the thread gets few turns
            verifier.play(number)
            if failures or (number >= NUM_STEPS and any(SHOWN in page for page in pages)):
                break
        is_over.set()
        thread.join()
    assert [] == failures
    assert any(SHOWN in page for page in pages)


def test_modes_of_streams_are_told_of_by_device() -> None:
    verifier = Verifier()
    verifier.play(0)
    planner, device = verifier.planner, verifier.devices["board-0"]
    next(iter(planner.streams.values())).estimates.mode.is_fused = True
    modes: tuple[ModeName, ...] = ("fused", "distributed", "fused")
    for mode in modes:
        device.estimates.windows.count_switch(mode)
    page = generate_latest(verifier.registry).decode()
    assert 'goodspeed_device_fused_streams{device="board-0"} 1.0' in page
    assert 'goodspeed_mode_switches_total{device="board-0",mode="fused"} 2.0' in page
    assert 'goodspeed_mode_switches_total{device="board-0",mode="distributed"} 1.0' in page
