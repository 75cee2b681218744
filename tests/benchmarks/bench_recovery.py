"""From a fault to the next token at a client that stays connected to its agent, in seconds.

Verifier and agent are processes of their own with the product's pauses and heartbeats; the chaos
proxy is between them.  Start-up is measured from the start of the verifier's process until it
answers, beside the recovery that has to wait for it.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import click

from tests.support.chats.prompt_set import DRAFTS, prompts
from tests.support.chats.recorders import Client
from tests.support.ends.waiting import eventually
from tests.support.network.chaos_lane import Weather
from tests.support.network.chaos_proxy import ChaosProxy, local
from tests.support.programs.command import AGENT, LAUNCHERS
from tests.support.programs.programs import Programs
from tests.support.programs.serving_program import ServingProgram

NUM_TOKENS = 1000
PIECES_BEFORE = 8
LONGEST_SECONDS = 180.0


@dataclass(frozen=True)
class Recovery:
    """One fault; all in seconds."""

    link: float  # until there is another connection
    token: float  # until the client has a token that came over it
    start_up: float | None = None  # of the verifier


@dataclass
class Scene:
    """What a fault may be done to."""

    verifier: ServingProgram
    proxy: ChaosProxy
    agent: ServingProgram
    http: aiohttp.ClientSession

    async def reset(self) -> None:
        self.proxy.reset()

    async def half_open(self) -> None:
        self.proxy.lose()

    async def restart(self) -> float:
        self.verifier.kill()
        started_at = time.monotonic()
        self.verifier.start()
        await asyncio.to_thread(self.verifier.wait_until_ready)
        return time.monotonic() - started_at


FAULTS: Mapping[str, Callable[[Scene], Awaitable[float | None]]] = {
    "reset": Scene.reset,
    "half-open": Scene.half_open,
    "killed and restarted verifier": Scene.restart,
}


@click.command()
@click.option("--model", type=click.Choice(["scripted", "real"]), default="scripted")
@click.option("--repeats", type=click.IntRange(1), default=10, show_default=True)
@click.option("--pause", type=click.FloatRange(0), default=3, help="Before each fault, seconds.")
@click.option("--round-ms", type=click.FloatRange(0), default=20, show_default=True)
@click.option("--round-trip-ms", type=click.FloatRange(0), default=0, show_default=True)
@click.option("--fault", "faults", type=click.Choice([*FAULTS]), multiple=True)
def main(
    model: str,
    repeats: int,
    pause: float,
    round_ms: float,
    round_trip_ms: float,
    faults: Sequence[str],
) -> None:
    """Print a row of percentiles for each fault."""
    weather = Weather(delay_seconds=round_trip_ms / 2e3)
    chosen = [name for name in faults or FAULTS for _ in range(repeats)]
    found: dict[str, list[Recovery]] = {}
    with tempfile.TemporaryDirectory() as directory:
        scene = _scene(Path(directory), model == "scripted", round_ms, weather)
        asyncio.run(_measure(scene, chosen, pause, _requests(model), found))
    print(
        f"{model} target, rounds of {round_ms:g} ms at least, round trip {round_trip_ms:g} ms, "
        f"{repeats} repeats, {pause:g} s apart\n\n"
        "| fault | until | median s | p90 s | longest s |\n|---|---|---|---|---|"
    )
    for name, recoveries in found.items():
        _print(name, "next token", [recovery.token for recovery in recoveries])
        _print(name, "new connection", [recovery.link for recovery in recoveries])
        start_ups = [r.start_up for r in recoveries if r.start_up is not None]
        if start_ups:
            _print(name, "verifier answers again", start_ups)
            waits = [r.token - r.start_up for r in recoveries if r.start_up is not None]
            _print(name, "next token, after that", waits)


@asynccontextmanager
async def _scene(
    directory: Path, is_scripted: bool, round_ms: float, weather: Weather
) -> AsyncIterator[Scene]:
    scripted = ("--scripted",) if is_scripted else ()
    with Programs(directory) as programs:
        token_file = programs.token_file("board")
        verifier = programs.verifier(
            (*LAUNCHERS, "verifier", *scripted, f"--round-ms={round_ms}"),
            {"target.dtype": "float32"},
        )
        async with ChaosProxy(local(verifier.port), weather) as proxy:
            agent = programs.agent(
                proxy.url,
                token_file,
                (*LAUNCHERS, "agent", "--scripted", "--token-ms=2") if is_scripted else AGENT,
                {"draft.model": DRAFTS[0]},
            )
            for program in (verifier, agent):
                program.start()
                await asyncio.to_thread(program.wait_until_ready)
            async with aiohttp.ClientSession() as http:
                yield Scene(verifier, proxy, agent, http)


def _requests(model: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    async def endless() -> AsyncIterator[tuple[str, dict[str, Any]]]:
        texts = [prompt.text for prompt in prompts()] if model == "real" else ["hello"]
        for i in count():
            sampling = {"temperature": 0.8, "seed": i} if i % 2 else {"temperature": 0}
            yield texts[i % len(texts)], {"max_tokens": NUM_TOKENS, **sampling}

    return endless()


async def _measure(
    scene_: Any,
    chosen: Sequence[str],
    pause: float,
    requests: AsyncIterator[tuple[str, dict[str, Any]]],
    found: dict[str, list[Recovery]],
) -> None:
    async with scene_ as scene:
        for number, name in enumerate(chosen):
            if sys.stderr.isatty():
                print(f"{number} of {len(chosen)}: {name:40}", end="\r", file=sys.stderr)
            await asyncio.sleep(pause)
            recovery = None
            while recovery is None:  # a real model may end its answer before its time
                recovery = await _recovery(scene, name, *(await anext(requests)))
            found.setdefault(name, []).append(recovery)


async def _recovery(scene: Scene, name: str, prompt: str, body: dict[str, Any]) -> Recovery | None:
    client = Client(prompt)
    url = f"http://127.0.0.1:{scene.agent.port}"
    asking = asyncio.create_task(client.ask(scene.http, url, body))
    try:
        await eventually(lambda: len(client.pieces) >= PIECES_BEFORE or asking.done())
        if asking.done():
            assert client.error is None, client.error
            return None
        before = scene.proxy.num_connections
        started_at = time.monotonic()
        happening = asyncio.ensure_future(FAULTS[name](scene))
        await eventually(lambda: scene.proxy.num_connections > before, LONGEST_SECONDS)
        linked_at = time.monotonic()
        await eventually(lambda: client.latest_at > linked_at or asking.done(), LONGEST_SECONDS)
        assert client.error is None, client.error
        start_up = await happening
        return Recovery(linked_at - started_at, client.latest_at - started_at, start_up)
    finally:
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking


def _print(name: str, until: str, seconds: Sequence[float]) -> None:
    p90 = statistics.quantiles(seconds, n=10, method="inclusive")[-1] if seconds[1:] else seconds[0]
    print(
        f"| {name} | {until} | {statistics.median(seconds):.2f} | {p90:.2f} | {max(seconds):.2f} |"
    )


if __name__ == "__main__":
    main()
