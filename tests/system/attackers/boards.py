"""Boards with a token that harm others as far as their limits let them; each goes on for ever."""

from __future__ import annotations

import asyncio
import itertools
from random import Random

import numpy as np

from shared.protocol.draft_packing import pack_rows
from shared.protocol.messages import (
    MAX_63_BITS,
    MAX_DRAFT_TOKENS,
    MAX_STOP_BYTES,
    MAX_STOP_STRINGS,
    AgentMessage,
    Cancel,
    Draft,
    Hello,
    Open,
    Ready,
    Status,
    Verdict,
)
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.logit_processors import MAX_LOGPROBS
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.ends.loopback import Verifier
from tests.support.ends.raw_board import hello_to, raw_board
from tests.support.ends.scripted import TARGET, VOCAB_SIZE
from tests.support.messages.misbehaviour import certain, row
from tests.support.models.processed_rows import random_processors
from tests.support.models.sampling_rounds import EDGE_TEMPERATURES, EDGE_TOP_K, EDGE_TOP_P
from tests.support.network.strangers import masked_frame
from tests.system.attackers.dear_requests import everything, forced_calls, grammars
from tests.system.attackers.flooding import (
    LET_GO,
    NUM_STREAMS,
    TICK_SECONDS,
    as_many_streams_as_may_be,
    flood,
    read_for_ever,
    transport_of,
    write_for_ever,
)
from verifier.target.scripted_tokenizer import ScriptedTokenizer

CONTEXT_TOKENS = 2048
PING = 0x89
BURST_ROUNDS = 20  # once in so many
TWELVE_DAYS = (1 << 40) - 1  # the longest that a Status can say, in microseconds
FLAT = SamplingParameters(100.0, 0, 0.99999)


async def extreme_numbers(verifier: Verifier, device: str) -> None:
    """Streams at the edges of what a request may ask of sampling."""
    random, numbers = Random(1), np.random.default_rng(1)

    def asked(channel: int) -> Open:
        sampling = SamplingParameters(
            random.choice(EDGE_TEMPERATURES), random.choice(EDGE_TOP_K), random.choice(EDGE_TOP_P)
        )
        return Open(
            channel,
            random.choice((0, MAX_63_BITS)),
            text="x",
            sampling=sampling,
            processors=random_processors(numbers),
            num_logprobs=random.choice((None, 0, MAX_LOGPROBS)),
            seed=random.choice((0, MAX_63_BITS)),
            max_tokens=random.choice((1, 50, CONTEXT_TOKENS)),
            draft_length=random.choice((None, 0, 1, 64)),
        )

    await as_many_streams_as_may_be(verifier, device, asked)


async def long_prompts(verifier: Verifier, device: str) -> None:
    """Prompts as long as may be, no two alike, for one token each."""
    random = Random(2)

    def asked(channel: int) -> Open:
        token_ids = random.choices(range(1, 60), k=CONTEXT_TOKENS - 2)
        prompt = pack_token_ids(token_ids)
        return Open(channel, channel, prompt=prompt, sampling=GREEDY, max_tokens=1)

    await as_many_streams_as_may_be(verifier, device, asked)


async def cache_hoarder(verifier: Verifier, device: str) -> None:
    """Streams that take the whole cache, and a board that owes each of them a draft."""
    async with raw_board(verifier, device) as board:
        await board.send(Status(TWELVE_DAYS))
        for channel in range(NUM_STREAMS):
            text = "abcdefgh"[channel] * (CONTEXT_TOKENS // 2)
            await board.open(channel, SamplingParameters(1.0), text, draft_length=4)
            await board.send(Ready(channel))
            await board.send(Status(TWELVE_DAYS))
        await read_for_ever(board)


async def dear_opens(verifier: Verifier, device: str) -> None:
    """Stop strings that an automaton finds hard, behind many committed tokens."""
    stop = tuple("a" * (MAX_STOP_BYTES - 1) + chr(98 + i) for i in range(MAX_STOP_STRINGS))
    committed = pack_token_ids([40] * (CONTEXT_TOKENS - 20))

    def opened(channel: int) -> list[AgentMessage]:
        sampled = Open(
            *(channel, channel), text="x", sampling=GREEDY, stop=stop, committed=committed
        )
        return [sampled, Cancel(channel)]

    await flood(verifier, device, (opened(channel) for channel in itertools.count()), 2)


async def opens_and_cancels(verifier: Verifier, device: str) -> None:
    """Streams that end as soon as they begin, 800 a second."""
    pairs = (
        [Open(channel, channel, text="a short prompt", sampling=GREEDY), Cancel(channel)]
        for channel in itertools.count()
    )
    await flood(verifier, device, pairs, 4)


async def flat_drafts(verifier: Verifier, device: str) -> None:
    """Long drafts of a fixed length, for rows that take long to sample."""
    async with raw_board(verifier, device) as board:
        for channel in range(NUM_STREAMS):
            await board.open(channel, FLAT, max_tokens=CONTEXT_TOKENS, draft_length=64)
            await board.send(Ready(channel))
        bases, drafted = [0] * NUM_STREAMS, [0] * NUM_STREAMS
        while True:
            verdict = await board.next()
            board.received.clear()
            if not isinstance(verdict, Verdict) or verdict.finish is not None:
                return
            channel, at = verdict.channel, board.position_after(verdict)
            if verdict.num_accepted < drafted[channel]:
                bases[channel] = at
            count = min(verdict.window, verdict.draft_length)
            ids = [1 + (at + i) % 60 for i in range(count)]
            drafted[channel] = count
            if count:
                await board.draft(bases[channel], at, ids, certain(*ids), channel)


async def bursts_of_drafts(verifier: Verifier, device: str) -> None:
    """Right drafts, held back and then sent for all streams at once, as far as windows go."""
    tokens = ScriptedTokenizer(VOCAB_SIZE).encode_text("x")
    num_prompt = len(tokens)
    while len(tokens) < CONTEXT_TOKENS:
        tokens.append(int(np.argmax(TARGET.logits(tokens))))
    text = tokens[num_prompt:]
    windows = [0] * NUM_STREAMS  # where they end
    drafted = [0] * NUM_STREAMS
    async with raw_board(verifier, device) as board:
        for channel in range(NUM_STREAMS):
            await board.open(channel, text="x", max_tokens=len(text) - MAX_DRAFT_TOKENS)
            await board.send(Ready(channel))
        for number in itertools.count(1):
            verdict = await board.next()
            board.received.clear()
            if not isinstance(verdict, Verdict) or verdict.finish is not None:
                return
            at = board.position_after(verdict)
            windows[verdict.channel] = at + verdict.window
            drafted[verdict.channel] = max(drafted[verdict.channel], at)
            if number % (NUM_STREAMS * BURST_ROUNDS):
                continue
            for channel, (start, end) in enumerate(zip(drafted, windows, strict=True)):
                if start < end:
                    await board.draft(0, start, text[start:end], channel=channel)
                    drafted[channel] = end


async def dead_rows(verifier: Verifier, device: str) -> None:
    """Drafts full of rows, for a path that is dead."""
    token_ids = [5] * 32
    others = [(other, 50) for other in range(6, 63)]
    rows = pack_rows(tuple(row((token_id, 100), *others) for token_id in token_ids))
    dead = Draft(0, 0, 0, pack_token_ids(token_ids), rows=rows)
    async with raw_board(verifier, device) as board:
        await board.open(0, SamplingParameters(1.0), max_tokens=CONTEXT_TOKENS)
        verdict = await board.window()
        at = board.position_after(verdict)
        await board.draft(at, at, [1], pack_rows((row((1, 9)),)))
        await write_for_ever(board, itertools.repeat([dead]), 8)


async def statuses(verifier: Verifier, device: str) -> None:
    """As many short messages as a device may send."""
    await flood(verifier, device, itertools.repeat([Status(5)]), 90)


async def pings(verifier: Verifier, device: str) -> None:
    """Frames that are no message."""
    async with raw_board(verifier, device) as board:
        await write_for_ever(board, itertools.repeat([]), 1, masked_frame(PING, b"") * 90)


async def two_with_one_token(verifier: Verifier, device: str) -> None:
    """Two boards that take the connection from each other."""

    async def come(instance_id: int) -> None:
        while True:
            try:
                async with raw_board(verifier, device, instance_id=instance_id) as board:
                    await board.open()
                    await read_for_ever(board)
            except LET_GO:
                await asyncio.sleep(0.05)

    await asyncio.gather(come(1), come(2))


async def log_forger(verifier: Verifier, device: str) -> None:
    """Greetings that would be lines of their own, and wrong ones, over and over."""
    right = hello_to(verifier)
    forged = "x\n<0>verifier: all is lost\x1b[2J\x9b31m"
    hellos = [
        Hello(right.protocol_version, forged, forged, 64, right.fingerprint, 4096),
        Hello(right.protocol_version, forged, forged, 64, b"\x01" * 200, 4096),
    ]
    for hello in itertools.cycle(hellos):
        async with raw_board(verifier, device, greets=False) as board:
            await board.send(hello)
            await board.next()


async def reads_nothing(verifier: Verifier, device: str) -> None:
    """Streams whose verdicts nobody takes."""
    async with raw_board(verifier, device) as board:
        transport = transport_of(board)
        for channel in range(NUM_STREAMS):
            await board.send(Open(channel, channel, text="x", sampling=GREEDY))
        transport.pause_reading()
        while not transport.is_closing():
            await board.send(Status(5))
            await asyncio.sleep(TICK_SECONDS)


BOARDS = {
    "extreme numbers": extreme_numbers,
    "cache hoarder": cache_hoarder,
    "dear opens": dear_opens,
    "flat drafts": flat_drafts,
    "bursts of drafts": bursts_of_drafts,
    "dead rows": dead_rows,
    "long prompts": long_prompts,
    "statuses": statuses,
    "pings": pings,
    "opens and cancels": opens_and_cancels,
    "two with one token": two_with_one_token,
    "log forger": log_forger,
    "reads nothing": reads_nothing,
    "grammars": grammars,
    "forced calls": forced_calls,
    "everything": everything,
}
