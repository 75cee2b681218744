"""Boards on loopback ports, for programs that use a client: one answers, others do not.

All are scripted but one: the board at FORMS has a verifier, whose target is held to forms.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import NamedTuple

from edge_agent.generation.generation import Finished, GenerationRequest, TextPiece
from edge_agent.generation.scripted_generator import ScriptedGenerator
from shared.errors import VerifierAway
from shared.protocol.messages import OutputFormat
from tests.support.ends.api_server import HELLO, serving
from tests.support.ends.forms_api import serving_forms

KEY = "a key of some length for clients"  # as the programs know it
_READY_SECONDS = 20.0
_CANCEL_SECONDS = 10.0
_SECONDS_PER_PIECE = 0.02  # so that a stream is seen to be one


THOUGHT, AFTER_CALL = "It may rain.", "It rains."
_CALL = ("<think>", "It may ", "rain.", "</think>", "<tool_call>", '{"name": "get_wea', 'ther", ')
_ARGUMENTS = ('"arguments": {"city":', ' "Paris"}', "}", "</tool_call>")


class CallingGenerator(ScriptedGenerator):
    """Calls a function, and speaks when it knows what came of that, or may call nothing."""

    def generate(self, request: GenerationRequest) -> AsyncIterator[TextPiece | Finished]:
        calls = request.tools and request.messages[-1].role != "tool"
        texts = (*_CALL, *_ARGUMENTS) if calls else (*_CALL[:4], "It ", "rains.")
        self.script = tuple(TextPiece(text, "target") for text in texts)
        return super().generate(request)


class Boards(NamedTuple):
    """Their addresses, by the names of the programs' environment, and what they were asked."""

    addresses: dict[str, str]
    generators: dict[str, ScriptedGenerator]

    def seen(self, content: str) -> GenerationRequest | None:
        """The last request with this as its last words."""
        found = None
        for generator in self.generators.values():
            for request in generator.requests:
                said = request.messages[-1].content if request.messages else request.text
                found = request if said == content else found
        return found

    def slow_one_is_cancelled(self) -> bool:
        """Whether the stream that never ends is over, or is so in a while."""
        slow = self.generators["SLOW"]
        gives_up_at = time.monotonic() + _CANCEL_SECONDS
        while not slow.was_cancelled.is_set() and time.monotonic() < gives_up_at:
            time.sleep(0.01)
        return slow.was_cancelled.is_set()


@contextmanager
def running_boards() -> Iterator[Boards]:
    """Serve them from a thread until the block ends."""
    generators = {
        "AGENT": ScriptedGenerator(HELLO, seconds_per_piece=_SECONDS_PER_PIECE),
        "AWAY": ScriptedGenerator([VerifierAway("the verifier is away")]),
        "LOCKED": ScriptedGenerator(HELLO),
        "SLOW": ScriptedGenerator([HELLO[0], asyncio.Event()]),
        "CALLS": CallingGenerator([], output_format=OutputFormat("hermes", "think")),
    }
    addresses: dict[str, str] = {}
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            for name, generator in generators.items():
                options = {"api_token": KEY} if name == "LOCKED" else {}
                addresses[name] = await stack.enter_async_context(serving(generator, **options))
            addresses["FORMS"] = await stack.enter_async_context(serving_forms())
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="boards")
    thread.start()
    try:
        assert ready.wait(_READY_SECONDS)
        yield Boards(addresses, generators)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
