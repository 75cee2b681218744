"""200 requests at once to one board, as its program runs by default: an answer or a clean 429."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.generation.generation import GenerationRequest
from shared.protocol.messages import ChatMessage
from shared.speculation.sampling import GREEDY
from tests.support.ends.scripted import target_text
from tests.support.programs.command import LAUNCHERS
from tests.support.programs.programs import Programs
from tests.support.programs.serving_program import ServingProgram

NUM_CLIENTS = 200
NUM_TOKENS = 4
PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProgram]:
    with Programs(Path(tmp_path_factory.mktemp("burst"))) as programs:
        verifier = programs.verifier((*LAUNCHERS, "verifier", "--scripted", "--round-ms=2"))
        made = programs.agent(
            f"ws://127.0.0.1:{verifier.port}",
            programs.token_file("board"),
            (*LAUNCHERS, "agent", "--scripted"),
        )
        for program in (verifier, made):
            program.start()
        for program in (verifier, made):
            program.wait_until_ready()
        yield made


def text_of(number: int) -> str:
    turn = ChatMessage("user", f"question {number}")
    asked = GenerationRequest(messages=(turn,), sampling=GREEDY, seed=number, max_tokens=NUM_TOKENS)
    return target_text(asked)


class Asking:
    """A client on a connection of its own, which it opens and writes to before anyone answers."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_streamed = number % 2 == 1

    async def open(self, port: int) -> None:
        turn = {"role": "user", "content": f"question {self.number}"}
        sampling = {"temperature": 0, "seed": self.number, "max_tokens": NUM_TOKENS}
        body = json.dumps({"messages": [turn], "stream": self.is_streamed, **sampling}).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        self._writer.write(head.encode() + body)
        await self._writer.drain()

    async def status(self) -> int:
        """Of an answer that is whole and as it must be; a reset raises ConnectionResetError."""
        answer = (await self._reader.read()).decode()
        self._writer.close()
        await self._writer.wait_closed()
        head, _, body = answer.partition("\r\n\r\n")
        status = int(head.split()[1])
        if status == 200:
            assert text_of(self.number) == self._text(body)
        else:
            assert "Retry-After" in head
            assert "rate_limit_error" == json.loads(body)["error"]["type"]
        return status

    def _text(self, body: str) -> str:
        if not self.is_streamed:
            return str(json.loads(body)["choices"][0]["message"]["content"])
        lines = [line for line in body.splitlines() if line.startswith("data: ")]
        assert "data: [DONE]" == lines[-1]
        events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
        choices = [choice for event in events for choice in event["choices"]]
        return "".join(choice["delta"].get("content") or "" for choice in choices)


@pytest.mark.parametrize("comes_before_accept", [False, True])
def test_200_requests_at_once_get_answers_or_429_and_none_is_reset(
    agent: ServingProgram, comes_before_accept: bool
) -> None:
    async def scenario() -> Counter[int]:
        asking = [Asking(number) for number in range(NUM_CLIENTS)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            if comes_before_accept:
                agent.send(signal.SIGSTOP)
            try:
                await asyncio.gather(*(each.open(agent.port) for each in asking))
            finally:
                if comes_before_accept:
                    agent.send(signal.SIGCONT)
            return Counter(await asyncio.gather(*(each.status() for each in asking)))

    statuses = asyncio.run(scenario())
    assert {200, 429} >= statuses.keys()
    assert statuses[200] >= 64, "the line of requests that wait holds as many by default"
    assert agent.is_ready
