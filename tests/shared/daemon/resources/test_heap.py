"""Memory that a program has freed goes back to the kernel; in processes of their own."""

from __future__ import annotations

import asyncio

import pytest

from shared.daemon.resources import heap
from tests.support.programs.command import run

_RESIDENT = """
import ctypes
from shared.daemon.resources.heap import MAPPED_BYTES, give_back_freed_memory, map_large_pieces

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def resident():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Anonymous")) >> 10

def filled(num_bytes):
    piece = libc.malloc(num_bytes)
    ctypes.memset(piece, 1, num_bytes)
    return piece
"""


def test_a_heap_full_of_holes_is_given_back() -> None:
    """Pieces that are kept between those that are freed hold the heap's end up."""
    script = f"""{_RESIDENT}
freed = [(filled(100_000), filled(32))[0] for _ in range(1_000)]
for piece in freed:
    libc.free(piece)
before = resident()
give_back_freed_memory()
print(before - resident())
"""
    code, output, errors = run(["-c", script])
    assert (0, "") == (code, errors)
    assert 80 < int(output)


def test_large_pieces_are_given_back_when_they_are_freed() -> None:
    """Without the limit glibc would keep all but the first of them: it maps only larger ones."""
    script = f"""{_RESIDENT}
map_large_pieces()
libc.free(filled(30 << 20))
pieces = [(filled(MAPPED_BYTES), filled(32))[0] for _ in range(40)]
before = resident()
for piece in pieces:
    libc.free(piece)
print(before - resident())
"""
    code, output, errors = run(["-c", script])
    assert (0, "") == (code, errors)
    assert 70 < int(output)


def test_it_is_given_back_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    is_third = asyncio.Event()
    calls: list[None] = []

    async def until_the_third() -> None:
        loop = asyncio.get_running_loop()

        def count() -> None:
            calls.append(None)
            if len(calls) == 3:
                loop.call_soon_threadsafe(is_third.set)

        monkeypatch.setattr(heap, "give_back_freed_memory", count)
        monkeypatch.setattr(heap, "_PAUSE_SECONDS", 0.001)
        keeper = asyncio.create_task(heap.keep_heap_small())
        async with asyncio.timeout(30):
            await is_third.wait()
        keeper.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeper

    asyncio.run(until_the_third())
    assert len(calls) >= 3
