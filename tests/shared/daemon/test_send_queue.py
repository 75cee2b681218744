"""What waits to be sent: messages first, parts of long ones between them."""

from __future__ import annotations

import asyncio

import pytest

from shared.daemon.send_queue import SendQueue, SendQueueFull


async def taken(queue: SendQueue, count: int) -> list[bytes | None]:
    async with asyncio.timeout(5):
        return [await queue.get() for _ in range(count)]


def test_a_message_waits_for_one_part_at_most() -> None:
    async def scenario() -> None:
        queue = SendQueue(8)
        queue.put_parts([b"1", b"2", b"3"])
        assert [b"1"] == await taken(queue, 1)
        queue.put(b"a")
        queue.put(b"b")
        assert [b"a", b"b", b"2", b"3"] == await taken(queue, 4)

    asyncio.run(scenario())


def test_long_messages_come_one_after_the_other() -> None:
    async def scenario() -> None:
        queue = SendQueue(8)
        queue.put_parts([b"1", b"2"])
        queue.put_parts([b"3", b"4"])
        assert [b"1", b"2", b"3", b"4"] == await taken(queue, 4)

    asyncio.run(scenario())


def test_what_is_not_wanted_any_more_is_dropped() -> None:
    async def scenario() -> None:
        queue, is_wanted = SendQueue(8), True
        queue.put_parts([b"1", b"2"], lambda: is_wanted)
        queue.put_parts([b"3"])
        assert [b"1"] == await taken(queue, 1)
        is_wanted = False
        assert [b"3"] == await taken(queue, 1)

    asyncio.run(scenario())


def test_the_writer_sleeps_until_there_is_something() -> None:
    async def scenario() -> None:
        queue = SendQueue(8)
        writer = asyncio.create_task(queue.get())
        await asyncio.sleep(0)
        assert not writer.done()
        queue.put(b"a")
        assert b"a" == await writer

    asyncio.run(scenario())


def test_the_end_comes_behind_messages_and_drops_parts() -> None:
    async def scenario() -> None:
        queue = SendQueue(8)
        queue.put_parts([b"1"])
        queue.put(b"a")
        queue.end()
        assert [b"a", None] == await taken(queue, 2)

    asyncio.run(scenario())


def test_a_queue_has_room_for_so_many_messages() -> None:
    queue = SendQueue(1)
    queue.put(b"a")
    with pytest.raises(SendQueueFull):
        queue.put(b"b")


def test_a_queue_has_room_for_so_many_bytes_of_messages_and_parts() -> None:
    queue = SendQueue(8, max_bytes=10)
    queue.put_parts([b"123", b"456"])
    queue.put(b"abcd")
    assert 10 == queue.num_bytes
    for put in (lambda: queue.put(b"e"), lambda: queue.put_parts([b"e"])):
        with pytest.raises(SendQueueFull, match="more than 10 bytes wait to be read"):
            put()
    assert (b"abcd", b"123", 3) == (queue.take(), queue.take(), queue.num_bytes)
    queue.end()
    assert (None, 0) == (queue.take(), queue.num_bytes)


def test_parts_that_are_not_wanted_take_no_room() -> None:
    queue = SendQueue(8, max_bytes=6)
    queue.put_parts([b"123", b"456"], lambda: False)
    assert queue.take() is None
    assert 0 == queue.num_bytes
