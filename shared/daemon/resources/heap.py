"""The C library's heap: what it keeps of memory that a program has freed.

glibc alone raises the size from which a piece is mapped, and so given back at once, up to 32 MB as
soon as such a piece is freed; what lies below later pieces of its heap then stays with the program.
"""

from __future__ import annotations

import asyncio
import ctypes

# mallopt's numbers in malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
# What an ordinary round takes stays in the heap, for each page of a mapping costs a fault; weights
# and what a long prompt takes do not.
MAPPED_BYTES = 2 << 20
# So much may be free at the end of the heap, which would otherwise shrink and grow in every round.
_FREE_END_BYTES = 16 << 20
_PAUSE_SECONDS = 15.0


def map_large_pieces() -> None:
    """Let pieces of `MAPPED_BYTES` and more be given back when they are freed, from now on."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # there is none in musl
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _FREE_END_BYTES)


def keep_one_heap() -> None:
    """Let threads share the one heap from now on; for a program whose threads have little to do.

    An agent without a model holds 0.4 MB less then.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def give_back_freed_memory() -> None:
    """Hand all whole pages to the kernel that are free; takes about 0.1 s for each GB of them."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def keep_heap_small() -> None:
    """Give back what is free, four times a minute; never returns.

    It takes some 20 ms, in a thread, and a round that allocates meanwhile waits for it.
    """
    while True:
        await asyncio.sleep(_PAUSE_SECONDS)
        await asyncio.to_thread(give_back_freed_memory)
