"""A long prompt comes into a verifier that serves others: how long their rounds take."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence

import msgspec

from shared.protocol.messages import ChatMessage, Error, Open, Verdict
from shared.protocol.prompt_parts import cut_open
from shared.protocol.token_ids import pack_token_ids, unpack_token_ids
from shared.speculation.sampling import GREEDY
from tests.support.ends.limits import make_device_limits, make_round_settings
from tests.support.ends.loopback import make_service, running_verifier
from tests.support.ends.raw_board import RawBoard, raw_board
from tests.support.models.counting_target import VOCAB_SIZE, CountingTarget, next_token
from verifier.cost_curve.curve import CostCurve
from verifier.cost_curve.look_back import Chunk, chunks_of
from verifier.engine.engine import RoundReport
from verifier.rounds.planner import StreamResult
from verifier.target.round import Round
from verifier.target.scripted_tokenizer import ScriptedTokenizer

OTHERS_PROMPT = "a prompt"


class Rounds(msgspec.Struct, frozen=True):
    """Rounds of the others before the long prompt came, and while it was read."""

    seconds_alone: list[float]
    seconds_beside: list[float]
    seconds_to_first_token: float  # of the long prompt, from its first byte


class RoundEnds:
    """Implements `RoundWatcher`: when rounds ended, by time.monotonic()."""

    def __init__(self) -> None:
        self.ended_at: list[float] = []

    def observe_result(self, result: StreamResult) -> None:
        """What came of it does not matter here."""

    def observe_round(self, report: RoundReport) -> None:
        """See `RoundWatcher`."""
        self.ended_at.append(time.monotonic())


def percentile(seconds: list[float], share: float) -> float:
    """What so large a share of them does not exceed."""
    return sorted(seconds)[min(int(share * len(seconds)), len(seconds) - 1)]


async def beside_others(
    num_prompt_tokens: int,
    num_streams: int,
    *,
    first_seconds: float = 0.010,
    seconds_per_token: float = 0.00002,
    seconds_per_pair: float = 0.0,
    knows_pairs: bool = True,
    alone_seconds: float = 3.0,
    is_given_by_ids: bool = False,
    device_limit: float = 1.0,
) -> Rounds:
    """Let `num_streams` of one device run, then a device come with the prompt.

    Asserts that no stream lost a token. A round takes `first_seconds`, each token's share, and that
    of each pair of a chunk's token and one before the chunk, which the verifier's curve may know.
    `device_limit` is `rounds.device_prefill_slowdown_limit`.
    """

    def seconds_of(num_tokens: int, chunks: Sequence[Chunk] = ()) -> float:
        pairs = sum(chunk.num_tokens * chunk.depth_tokens for chunk in chunks)
        return first_seconds + seconds_per_token * num_tokens + seconds_per_pair * pairs

    def seconds(round_: Round) -> float:
        return seconds_of(round_.num_tokens, chunks_of(round_))

    context = num_prompt_tokens + 4096
    target = CountingTarget(context, 2 * context + num_streams * 16_384, seconds)
    chunks = [Chunk(n, depth) for n in (16, 256) for depth in (1024, num_prompt_tokens)]
    curve = CostCurve.from_samples(
        [(n, 64, seconds_of(n)) for n in (1, 1024)],
        chunk_samples=[(chunk, seconds_of(chunk.num_tokens, [chunk])) for chunk in chunks]
        if knows_pairs
        else (),
    )
    settings = make_round_settings(device_prefill_slowdown_limit=device_limit)
    service = make_service(target, ScriptedTokenizer(VOCAB_SIZE), settings, curve=curve)
    rounds = RoundEnds()
    service.metrics.watchers.append(rounds)
    limits = make_device_limits(prompt_bytes=16 << 20)
    async with (
        running_verifier(service, ("others", "long"), device_limits=limits) as verifier,
        raw_board(verifier, "others") as others,
        raw_board(verifier, "long") as long,
    ):
        for channel in range(num_streams):
            await others.open(channel, text=OTHERS_PROMPT, max_tokens=10**6, draft_length=0)
        reading = asyncio.create_task(_read(others))
        await asyncio.sleep(alone_seconds)
        came_at = time.monotonic()
        for part in cut_open(_prompt(num_prompt_tokens, is_given_by_ids=is_given_by_ids)):
            await long.send(part)
        first = await _first_verdict(long)
        told_at = time.monotonic()
        reading.cancel()
        await asyncio.wait([reading])
        token_ids = unpack_token_ids(first.tokens, VOCAB_SIZE).tolist()
        assert [next_token(num_prompt_tokens)] == token_ids
        _check_outputs(others, num_streams)
    pauses = [(end, end - start) for start, end in itertools.pairwise(rounds.ended_at)]
    settled_at = came_at - 0.8 * alone_seconds
    return Rounds(
        seconds_alone=[pause for end, pause in pauses if settled_at < end < came_at],
        seconds_beside=[pause for end, pause in pauses if came_at < end < told_at],
        seconds_to_first_token=told_at - came_at,
    )


def _prompt(num_tokens: int, *, is_given_by_ids: bool) -> Open:
    asked = Open(0, 1, sampling=GREEDY, max_tokens=1, draft_length=0)
    if is_given_by_ids:
        return msgspec.structs.replace(asked, prompt=pack_token_ids([9] * num_tokens))
    turn = ChatMessage("user", "x" * num_tokens)
    return msgspec.structs.replace(asked, messages=(turn,))


async def _read(board: RawBoard) -> None:
    while True:
        await board.next()


async def _first_verdict(board: RawBoard) -> Verdict:
    while True:
        try:
            message = await board.next()
        except TimeoutError:  # a prompt may take longer than a test waits for an answer
            continue
        assert not isinstance(message, Error), message
        if isinstance(message, Verdict):
            return message


def _check_outputs(others: RawBoard, num_streams: int) -> None:
    outputs: dict[int, list[int]] = {channel: [] for channel in range(num_streams)}
    for message in others.received:
        assert not isinstance(message, Error), message
        if isinstance(message, Verdict):
            output = outputs[message.channel]
            assert len(output) == message.position
            output += unpack_token_ids(message.tokens, VOCAB_SIZE).tolist()
    for output in outputs.values():
        expected = [next_token(len(OTHERS_PROMPT) + i) for i in range(len(output))]
        assert expected == output
        assert output
