"""An honest board beside attackers: what it notices of them."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import msgspec
import numpy as np

from shared.protocol.messages import Error, Open, Opened, Verdict
from shared.protocol.token_ids import pack_token_ids, unpack_token_ids
from shared.speculation.noise import Domain
from shared.speculation.probabilities import dense_probabilities
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.verification import draw_dense
from tests.support.ends.raw_board import Closed, RawBoard, raw_board
from tests.support.ends.scripted import TARGET, VOCAB_SIZE
from tests.support.programs.command import ROOT, environment
from tests.system.attackers.core_waits import CoreWaits
from tests.system.attackers.verifier import ROUND_SECONDS, Access, RoundTimes
from verifier.rounds.settings import RoundsSection
from verifier.target.scripted_tokenizer import ScriptedTokenizer

PROMPT, SEED, NUM_TOKENS = "a long story", 17, 200
SAMPLINGS = (GREEDY, SamplingParameters(0.8))  # one stream each
WARM_UP_ID = 1 << 40  # of a stream that is none of those watched
START_SECONDS = 1.0  # until an attacker is at it
ARRIVAL_SECONDS = 1.0  # in which rounds are still those of the attackers alone
LOWEST_PRIORITY = 19


@dataclass
class Noticed:
    """What the board noticed."""

    counts_from: float
    seconds: list[float] = field(default_factory=list)  # between verdicts of a stream
    own_seconds: list[float] = field(default_factory=list)  # less the waits for a core in them
    num_ended: int = 0  # streams that did not come to their own end, and connections
    num_texts: int = 0
    num_wrong: int = 0
    times: RoundTimes | None = None  # of the verifier's rounds, as it counts them

    @property
    def slow_milliseconds(self) -> float:
        """The 99th percentile between verdicts, as the board sees it."""
        return float(np.percentile(self.seconds, 99)) * 1e3

    @property
    def is_clear(self) -> bool:
        """Whether waits for a core hardly overlapped: most times less them are a round at least."""
        return float(np.median(self.own_seconds)) >= 0.98 * ROUND_SECONDS

    @property
    def own_milliseconds(self) -> float:
        """The 99th percentile, less what verifier and board waited for a core meanwhile."""
        return float(np.percentile(self.own_seconds, 99)) * 1e3


def expected(sampling: SamplingParameters) -> list[int]:
    """What the target alone says, by the reference."""
    tokens = ScriptedTokenizer(VOCAB_SIZE).encode_text(PROMPT)
    num_prompt = len(tokens)
    for position in range(NUM_TOKENS):
        probs = dense_probabilities(TARGET.logits(tokens), sampling)
        tokens.append(draw_dense(probs, SEED, position, Domain.COUPLED))
    return tokens[num_prompt:]


TEXTS = tuple(expected(sampling) for sampling in SAMPLINGS)


async def watch(access: Access, seconds: float, waits: CoreWaits) -> Noticed:
    """Keep two streams open for so long, one after the other of each kind.

    Times count from when the board has been there for a second.
    """
    noticed = Noticed(counts_from=time.monotonic() + ARRIVAL_SECONDS)
    until = noticed.counts_from + seconds
    while time.monotonic() < until:
        try:
            async with raw_board(access.verifier(), "good") as board:
                await _chat(board, until, noticed, waits)
        except (Closed, OSError, TimeoutError):
            noticed.num_ended += 1
            await asyncio.sleep(0.1)
    return noticed


async def _chat(board: RawBoard, until: float, noticed: Noticed, waits: CoreWaits) -> None:
    kinds: dict[int, int] = {}  # of each channel
    said: dict[int, list[int]] = {}
    last: dict[int, tuple[float, float]] = {}  # when, and the waits until then

    async def ask(kind: int) -> None:
        channel = len(said)
        kinds[channel], said[channel] = kind, []
        asked = Open(channel, channel, text=PROMPT, sampling=SAMPLINGS[kind], seed=SEED)
        asked = msgspec.structs.replace(asked, max_tokens=NUM_TOKENS, draft_length=0)
        await board.send(asked)

    for kind in range(len(SAMPLINGS)):
        await ask(kind)
    while time.monotonic() < until:
        message = await board.next()
        board.received.clear()
        if isinstance(message, Error):
            noticed.num_ended += 1
            return
        if not isinstance(message, Verdict):
            assert isinstance(message, Opened)
            continue
        channel, now, waited = message.channel, time.monotonic(), waits.seconds()
        if channel in last and last[channel][0] >= noticed.counts_from:
            seconds = now - last[channel][0]
            noticed.seconds.append(seconds)
            noticed.own_seconds.append(max(seconds - (waited - last[channel][1]), 0.0))
        last[channel] = now, waited
        said[channel] += unpack_token_ids(message.tokens, VOCAB_SIZE).tolist()
        noticed.num_wrong += said[channel] != TEXTS[kinds[channel]][: len(said[channel])]
        if message.finish is not None:
            noticed.num_texts += 1
            noticed.num_ended += len(said[channel]) != NUM_TOKENS
            await ask(kinds[channel])


@dataclass(frozen=True)
class VerifierProcess:
    """A verifier that runs."""

    access: Access
    waits: CoreWaits  # of its threads and this one, for a core
    process: asyncio.subprocess.Process

    async def end(self) -> RoundTimes:
        """Ask for its end and what its rounds took."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        return msgspec.json.decode(await self.process.stdout.readline(), type=RoundTimes)


@asynccontextmanager
async def verifier_process(device_prefill_slowdown_limit: float) -> AsyncIterator[VerifierProcess]:
    """A verifier that has run a round."""
    limit = str(device_prefill_slowdown_limit)
    command = (sys.executable, "-m", "tests.system.attackers.verifier", limit)
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=environment(),
    )
    assert process.stdout is not None
    try:
        access = msgspec.json.decode(await process.stdout.readline(), type=Access)
        async with raw_board(access.verifier(), "good") as board:
            # By ids, which need no thread but that of the rounds.
            asked = Open(0, WARM_UP_ID, prompt=pack_token_ids([1]), sampling=GREEDY, max_tokens=1)
            await board.send(asked)
            await board.next_of(Verdict)
        waits = CoreWaits.of_process(process.pid, threading.get_native_id())
        yield VerifierProcess(access, waits, process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def attackers(access: Access, names: Sequence[str], niceness: int) -> AsyncIterator[None]:
    """These attackers at work, each a device and a process so much nicer than this one."""
    async with AsyncExitStack() as stack:
        for i, name in enumerate(names):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.system.attackers.attacker", name, f"bad-{i}"),
                stdin=subprocess.PIPE,
                cwd=ROOT,
                env=environment(),
                preexec_fn=lambda: os.nice(niceness),
            )
            stack.push_async_callback(_end, process)
            assert process.stdin is not None
            process.stdin.write(msgspec.json.encode(access) + b"\n")
            await process.stdin.drain()
        await asyncio.sleep(START_SECONDS * len(names))
        yield


async def _end(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await process.wait()


async def beside(
    names: Sequence[str],
    seconds: float,
    device_prefill_slowdown_limit: float = RoundsSection().device_prefill_slowdown_limit,
    niceness: int = LOWEST_PRIORITY,
) -> Noticed:
    """What the board notices of these attackers at a verifier of their own."""
    async with verifier_process(device_prefill_slowdown_limit) as verifier:
        async with attackers(verifier.access, names, niceness):
            noticed = await watch(verifier.access, seconds, verifier.waits)
        noticed.times = await verifier.end()
    return noticed
