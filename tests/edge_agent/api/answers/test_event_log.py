from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from edge_agent.api.answers.event_log import EventForgotten, EventLog


async def known(log: EventLog, num_known: int = 0) -> bytes:
    """What a reader gets of a log that is over."""
    async with aclosing(log.read(num_known)) as events:
        return b"".join([some async for some in events])


def written(*events: bytes, answer_id: str | None = "a") -> EventLog:
    log = EventLog(answer_id)
    for some in events:
        log.write(some)
    log.end()
    return log


def test_every_event_has_its_id() -> None:
    log = written(b"data: 1\n\ndata: 2\n\n", b"event: x\ndata: 3\n\n")
    expected = b"id: a:0\ndata: 1\n\nid: a:1\ndata: 2\n\nid: a:2\nevent: x\ndata: 3\n\n"
    assert expected == asyncio.run(known(log))


def test_lines_of_another_form_have_none() -> None:
    assert b"{}\n{}\n" == asyncio.run(known(written(b"{}\n", b"{}\n", answer_id=None)))


@pytest.mark.parametrize(("num_known", "first"), [(0, b"id: a:0"), (2, b"id: a:2"), (3, b"")])
def test_a_reader_goes_on_where_it_was(num_known: int, first: bytes) -> None:
    log = written(b"data: 1\n\ndata: 2\n\ndata: 3\n\n")
    assert first == asyncio.run(known(log, num_known)).partition(b"\n")[0]


def test_an_event_that_never_was_is_not_known() -> None:
    with pytest.raises(EventForgotten):
        asyncio.run(known(written(b"data: 1\n\n"), 2))


def test_readers_get_what_is_written_after_they_came() -> None:
    async def scenario() -> None:
        log = EventLog("a")
        readers = [asyncio.create_task(known(log, num_known)) for num_known in (0, 1)]
        log.write(b"data: 1\n\n")
        for _ in range(100):
            await asyncio.sleep(0)
            log.write(b"data: 2\n\n")
        log.end()
        whole, rest = [await reader for reader in readers]
        assert 101 == whole.count(b"data")
        assert whole.endswith(rest)
        assert 100 == rest.count(b"data")

    asyncio.run(scenario())


def test_what_a_reader_has_yet_to_read_is_not_forgotten() -> None:
    async def scenario() -> None:
        log = EventLog("a")
        log.write(b"data: 1\n\n" * 100)
        async with aclosing(log.read(0)) as events:
            first = await anext(events)
            log.forget_what_was_read()
            log.end()
            rest = b"".join([some async for some in events])
        assert 100 == (first + rest).count(b"data: 1")
        log.forget_what_was_read()
        assert (100, 0) == (log.num_events, log.num_bytes)
        with pytest.raises(EventForgotten):
            await known(log, 50)

    asyncio.run(scenario())
