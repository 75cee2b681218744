"""Work for a device in threads: one piece at a time, and what Python computes one for all."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import weakref
from contextlib import suppress

import pytest

from shared.daemon.resources.interpreter_turns import CLIENT_SWITCH_SECONDS
from tests.support.ends.waiting import eventually
from verifier.engine.device import RESTS, Device
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.kept_streams import KeptStreams

SECONDS = 0.02


def device(name: str) -> Device:
    return Device(name, DeviceEstimates(), KeptStreams(4))


class Work:
    """Goes on until it may end."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.may_end = threading.Semaphore(0)

    def do(self, name: str) -> str:
        self.begun.append(name)
        assert self.may_end.acquire(timeout=10)
        return name


def test_in_the_line_of_all_devices_each_has_one_place() -> None:
    """However much the first one asks for, the second is behind one piece of it."""

    async def scenario() -> list[str]:
        work, line, bad, good = Work(), asyncio.Lock(), device("bad"), device("good")
        asked = [asyncio.create_task(one.in_thread(work.do, one.name, line)) for one in (bad,) * 5]
        await eventually(lambda: work.begun == ["bad"])
        asked.append(asyncio.create_task(good.in_thread(work.do, "good", line)))
        for num_ended in range(1, 7):
            work.may_end.release()
            await eventually(lambda count=num_ended: len(work.begun) == min(count + 1, 6))
        await asyncio.gather(*asked)
        return work.begun

    begun = asyncio.run(scenario())
    assert ["bad", "good", "bad"] == begun[:3]


def test_work_that_nobody_waits_for_any_more_keeps_its_place_until_it_ends() -> None:
    async def scenario() -> list[str]:
        work, line, bad, good = Work(), asyncio.Lock(), device("bad"), device("good")
        dropped = asyncio.create_task(bad.in_thread(work.do, "bad", line))
        await eventually(lambda: work.begun == ["bad"])
        waiting = asyncio.create_task(bad.in_thread(work.do, "never", line))
        after = asyncio.create_task(good.in_thread(work.do, "good", line))
        await asyncio.sleep(0)
        for task in (dropped, waiting):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert ["bad"] == work.begun
        work.may_end.release()
        await eventually(lambda: work.begun == ["bad", "good"])
        work.may_end.release()
        assert "good" == await after
        locks = (line, bad.thread, good.thread)
        await eventually(lambda: not any(lock.locked() for lock in locks))
        return work.begun

    assert ["bad", "good"] == asyncio.run(scenario())


def test_what_python_computes_for_a_client_takes_shorter_turns_at_the_interpreter() -> None:
    """The loop and the target's thread wait for several of them."""

    async def scenario() -> tuple[float, float]:
        one = device("one")
        computed = await one.in_thread(lambda _: sys.getswitchinterval(), None, asyncio.Lock())
        return computed, await one.in_thread(lambda _: sys.getswitchinterval(), None)

    before = sys.getswitchinterval()
    computed, of_others = asyncio.run(scenario())
    assert computed == pytest.approx(CLIENT_SWITCH_SECONDS)
    assert before == of_others == sys.getswitchinterval()


def test_a_device_has_a_rest_from_what_python_computes_for_it_and_others_do_not_wait() -> None:
    def compute(seconds: float) -> float:
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass
        return time.monotonic()

    async def scenario() -> tuple[float, ...]:
        line, bad, good = asyncio.Lock(), device("bad"), device("good")
        first = await bad.in_thread(compute, SECONDS, line)
        other = asyncio.create_task(good.in_thread(compute, 0.0, line))
        again = await bad.in_thread(compute, 0.0, line)
        assert not good.thread.locked()
        return first, await other, again

    first, other, again = asyncio.run(scenario())
    assert again - first >= RESTS * SECONDS
    assert other < again


class Tools:
    """What work had in hand, large as a rule."""


def test_work_that_fails_leaves_nothing_for_the_search_for_garbage() -> None:
    left: list[weakref.ref[Tools]] = []

    def refuse(_: None) -> None:
        tools = Tools()
        left.append(weakref.ref(tools))
        raise ValueError("too many tools")

    async def scenario() -> None:
        for line in (None, asyncio.Lock()):
            with suppress(ValueError):
                await device("one").in_thread(refuse, None, line)
        await eventually(lambda: [None, None] == [tools() for tools in left])

    gc.disable()
    try:
        asyncio.run(scenario())
    finally:
        gc.enable()
