"""Boards behind real doors: no byte is lost on the way there, and a door's end costs no token."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import uvloop

from edge_agent.generation.generation import GenerationRequest
from shared.errors import LinkLost
from shared.protocol.codec import decode_from_verifier, encode
from shared.protocol.messages import Verdict, Welcome
from shared.speculation.sampling import SamplingParameters
from tests.support.ends.loopback import Verifier, chat, generate, running_agent, running_verifier
from tests.support.ends.raw_board import DEVICE_PATH, hello_to, raw_board
from tests.support.ends.scripted import board, scripted_service, target_text
from tests.support.ends.waiting import eventually
from tests.support.network.strangers import masked_frame, stranger, upgrade
from tests.support.programs.ports import listening_addresses
from verifier.doors import kept_door
from verifier.doors.doors import Doors
from verifier.doors.kept_door import KeptDoor

PATIENCE_SECONDS = 60.0
BINARY = 0x82
REQUEST = GenerationRequest(
    messages=chat("hello"), sampling=SamplingParameters(0.8), seed=7, max_tokens=150
)


def door_of(verifier: Verifier, number: int = 0) -> KeptDoor:
    return verifier.server._doors.all[number]


async def text_of(verifier: Verifier) -> str:
    """What a real agent gets, with drafts."""
    async with running_agent(verifier, board()) as agent:
        text, _ = await generate(agent, REQUEST)
        return text


async def disturbed(verifier: Verifier, disturb: signal.Signals) -> str:
    """The same, of an agent whose door is disturbed in the middle of the answer."""
    async with running_agent(verifier, board()) as agent:
        answer = asyncio.create_task(generate(agent, REQUEST))
        door = door_of(verifier)
        await eventually(lambda: door.num_messages > 10, PATIENCE_SECONDS)
        before = door.process_id
        assert before is not None
        os.kill(before, disturb)
        text, _ = await answer
        assert before != door.process_id
        return text


@pytest.mark.parametrize("disturb", [signal.SIGKILL, signal.SIGSTOP])
def test_an_answer_goes_on_letter_for_letter_when_its_door_dies_or_freezes(
    disturb: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_door, "BEAT_SECONDS", 0.2)

    async def scene() -> str:
        service = scripted_service(delay_seconds=lambda _: 0.005)
        async with running_verifier(service, num_doors=1) as verifier:
            return await disturbed(verifier, disturb)

    assert target_text(REQUEST) == asyncio.run(scene())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_a_board_says_the_moment_it_may_is_heard(new_loop: object) -> None:
    """In the same millisecond as the 101; and with the upgrade itself, before it may."""

    async def scene() -> tuple[set[type], list[int]]:
        names = [f"board-{number}" for number in range(20)]
        async with (
            running_verifier(scripted_service(), names, num_doors=2) as verifier,
            AsyncExitStack() as stack,
        ):
            ends = [await stack.enter_async_context(stranger(verifier.port)) for _ in names]
            hello = masked_frame(BINARY, encode(hello_to(verifier)))

            async def greet(number: int) -> type:
                end, token = ends[number], verifier.tokens[names[number]]
                head, is_hasty = upgrade(DEVICE_PATH, f"Authorization: Bearer {token}"), number < 3
                await end.send(head + (hello if is_hasty else b""))
                assert b"101" in await end.head()
                if not is_hasty:
                    await end.send(hello)
                return type(decode_from_verifier(await end.frame()))

            kinds = set(await asyncio.gather(*map(greet, range(len(names)))))
            return kinds, [door_of(verifier, number).num_connections for number in (0, 1)]

    with asyncio.Runner(loop_factory=new_loop) as runner:  # type: ignore[arg-type]
        kinds, counts = runner.run(scene())
    assert {Welcome} == kinds
    assert 17 == sum(counts)
    assert max(counts) - min(counts) <= 1


def test_a_verifier_that_is_killed_takes_its_doors_with_it() -> None:
    async def scene() -> None:
        async with running_verifier(scripted_service(), num_doors=1) as verifier:
            process_id = door_of(verifier).process_id
            link = door_of(verifier)._link
            assert link is not None
            link.abort()  # as the kernel does
            await eventually(lambda: door_of(verifier).process_id != process_id, PATIENCE_SECONDS)
            await eventually(lambda: not Path(f"/proc/{process_id}").exists(), PATIENCE_SECONDS)

    asyncio.run(scene())


def test_a_door_listens_nowhere() -> None:
    """It gets connected sockets alone; the verifier's port is not handed down to it."""

    async def scene() -> tuple[set[str], set[str]]:
        async with running_verifier(scripted_service(), num_doors=1) as verifier:
            process_id = door_of(verifier).process_id
            assert process_id is not None
            return listening_addresses([process_id]), listening_addresses([os.getpid()])

    assert (set(), {"127.0.0.1"}) == asyncio.run(scene())


def test_without_a_door_that_serves_connections_stay_in_the_verifiers_process() -> None:
    async def scene() -> None:
        async with running_verifier(scripted_service(), num_doors=1) as verifier:
            door_of(verifier)._is_alive.clear()
            async with raw_board(verifier, "board") as one:
                await one.open(max_tokens=3)
                while (await one.next_of(Verdict)).finish is None:
                    pass
                assert 0 == door_of(verifier).num_connections

    asyncio.run(scene())


def test_a_door_that_does_not_serve_is_told_of_in_a_sentence() -> None:
    async def scene() -> None:
        doors = Doors(1, lambda call: False)
        doors.all = [KeptDoor("door 0", lambda call: False, ("false",))]
        try:
            with pytest.raises(LinkLost, match="door 0 ended with status 1 before it served"):
                await doors.start()
        finally:
            await doors.stop()

    asyncio.run(scene())


def test_a_door_needs_neither_torch_nor_the_planner() -> None:
    def mapped_by(process_id: int | None) -> str:
        return Path(f"/proc/{process_id}/maps").read_text()

    async def scene() -> str:
        async with running_verifier(scripted_service(), num_doors=1) as verifier:
            return mapped_by(door_of(verifier).process_id)

    mapped = asyncio.run(scene())
    assert "uvloop" in mapped
    assert "torch" not in mapped
