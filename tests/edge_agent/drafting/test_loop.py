"""The drafting loop over a real event loop and a scripted draft model."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.draft_model.drafter import DraftInterrupted, Forward
from edge_agent.draft_model.scripted_drafter import ScriptedDrafter
from edge_agent.drafting.loop import DraftingLoop
from edge_agent.drafting.settings import DraftSettings
from edge_agent.drafting.stream import AgentStream
from shared.errors import ModelError, OutOfCache
from shared.protocol.messages import AcceptanceMode, Draft, Opened, Ready, Verdict
from shared.protocol.token_ids import pack_token_ids, unpack_token_ids
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.scripted_model import ScriptedModel, scripted_token_bytes
from tests.support.ends.waiting import eventually

VOCAB_SIZE = 50
MODEL = ScriptedModel(VOCAB_SIZE, seed=3)
CHUNK_TOKENS = 16


class FaultyDrafter(ScriptedDrafter):
    """Fails for the slots that it is told to, and may forget as recurrent models do."""

    def __init__(
        self, *, num_slots: int = 2, forgets: bool = False, seconds_per_token: float = 0.0
    ) -> None:
        super().__init__(
            self._logits,
            scripted_token_bytes(VOCAB_SIZE),
            num_slots=num_slots,
            seconds_per_token=seconds_per_token,
        )
        self.forgets = forgets
        self.errors: dict[int, Exception] = {}  # by slot: raised before anything is appended
        self.breaks: set[int] = set()  # slots whose batches lose all that they held
        self.undefined: set[int] = set()  # last tokens after which logits are no numbers
        self.batches: list[dict[int, int]] = []  # tokens of each slot, batch by batch
        self.started = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def forward(self, batch: Sequence[Forward]) -> list[NDArray[np.float32] | None]:
        self.started.set()
        assert self.gate.wait(10)
        self.batches.append({item.slot: len(item.token_ids) for item in batch})
        if self.breaks & {item.slot for item in batch}:
            for item in batch:
                super().truncate(item.slot, 0)
            raise ModelError("the model broke")
        for item in batch:
            if item.slot in self.errors:
                raise self.errors[item.slot]
        return super().forward(batch)

    def truncate(self, slot: int, num_tokens: int) -> int:
        if self.forgets and 0 < num_tokens < self.num_tokens(slot):
            num_tokens = 0
        return super().truncate(slot, num_tokens)

    def _logits(self, tokens: tuple[int, ...]) -> NDArray[np.float32]:
        logits = MODEL.logits(tokens)
        return np.full_like(logits, np.nan) if tokens[-1] in self.undefined else logits


class Board:
    """A drafting loop, and what it sends."""

    def __init__(self, drafter: FaultyDrafter) -> None:
        self.drafter = drafter
        self.loop = DraftingLoop(drafter, self._send)
        self.sent: asyncio.Queue[tuple[int, str, list[int]]] = asyncio.Queue()
        self._next_channel = 0

    def _send(self, stream: AgentStream, message: Ready | Draft) -> None:
        assert stream.channel == message.channel
        if isinstance(message, Ready):
            self.sent.put_nowait((message.channel, "ready", []))
        else:
            token_ids = unpack_token_ids(message.tokens, VOCAB_SIZE).tolist()
            self.sent.put_nowait((message.channel, "draft", token_ids))

    async def next(self) -> tuple[int, str, list[int]]:
        async with asyncio.timeout(10):
            return await self.sent.get()

    def open(self, mode: AcceptanceMode = "coupled", num_prompt: int = 5) -> AgentStream:
        """Add a stream that the verifier has just opened."""
        stream = AgentStream(
            channel=self._next_channel,
            vocab_size=VOCAB_SIZE,
            settings=DraftSettings(
                row_entries=8,
                confidence_stop=0.0,
                prefill_chunk_tokens=CHUNK_TOKENS,
                context_tokens=1000,
            ),
            sampling=GREEDY if mode == "coupled" else SamplingParameters(),
            drafts=True,
        )
        self._next_channel += 1
        prompt_ids = [(stream.channel + 3 * i) % VOCAB_SIZE for i in range(num_prompt)]
        stream.start(Opened(stream.channel, pack_token_ids(prompt_ids), 7, mode))
        self.loop.add(stream)
        return stream

    def verdict(self, stream: AgentStream, *own: int, accepted: int = 0, window: int = 2) -> None:
        position = len(stream.output_ids)
        tokens = pack_token_ids(own)
        stream.commit_verdict(Verdict(stream.channel, position, accepted, tokens, window, 2), 0.0)
        for draft in stream.take_due_drafts():
            self._send(stream, draft)
        self.loop.wake()

    async def open_to_draft(
        self, mode: AcceptanceMode = "coupled", num_prompt: int = 5
    ) -> AgentStream:
        """A stream that is ready and has no window yet."""
        stream = self.open(mode, num_prompt)
        assert (stream.channel, "ready", []) == await self.next()
        return stream


@asynccontextmanager
async def running(drafter: FaultyDrafter) -> AsyncIterator[Board]:
    board = Board(drafter)
    task = asyncio.create_task(board.loop.run())
    try:
        yield board
    finally:
        drafter.gate.set()
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


def with_board(drafter: FaultyDrafter, scene: Callable[[Board], Awaitable[None]]) -> None:
    async def play() -> None:
        async with running(drafter) as board:
            await scene(board)

    asyncio.run(play())


def greedy(stream: AgentStream, num_tokens: int) -> list[int]:
    """What a perfect greedy draft holds now."""
    tokens = [*(stream.prompt_ids or ()), *stream.output_ids]
    for _ in range(num_tokens):
        tokens.append(int(np.argmax(MODEL.logits(tokens))))
    return tokens[-num_tokens:]


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run; it tells nobody what it does in between."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def idle(board: Board) -> int:
    """The batches so far, when the loop has nothing more to do."""
    board.loop.wake()
    for _ in range(5):
        await asyncio.sleep(0)
    return len(board.drafter.batches)


# --- drafting -------------------------------------------------------------------------------------


def test_a_stream_becomes_ready_and_drafts_what_it_may() -> None:
    async def scene(board: Board) -> None:
        stream = await board.open_to_draft()
        board.verdict(stream, 20, window=4)
        expected = greedy(stream, 4)
        assert (0, "draft", expected[:2]) == await board.next()
        assert (0, "draft", expected[2:]) == await board.next()
        board.verdict(stream, 21, window=2)  # most likely not what was drafted
        assert (0, "draft", greedy(stream, 2)) == await board.next()

    with_board(FaultyDrafter(), scene)


def test_a_long_prompt_is_read_in_chunks() -> None:
    async def scene(board: Board) -> None:
        await board.open_to_draft(num_prompt=40)
        assert [{0: 16}, {0: 16}] == board.drafter.batches[:2]

    with_board(FaultyDrafter(), scene)


def test_streams_share_batches() -> None:
    async def scene(board: Board) -> None:
        streams = [await board.open_to_draft() for _ in range(2)]
        board.drafter.batches.clear()
        for stream in streams:
            board.verdict(stream, 20)
        assert {(0, "draft"), (1, "draft")} == {(await board.next())[:2] for _ in streams}
        assert all({0, 1} == set(batch) for batch in board.drafter.batches)

    with_board(FaultyDrafter(), scene)


def test_streams_beyond_the_slots_wait_for_one() -> None:
    async def scene(board: Board) -> None:
        first = await board.open_to_draft()
        await board.open_to_draft()
        third, fourth = board.open(), board.open()
        assert {0, 1} == {slot for batch in board.drafter.batches for slot in batch}
        assert 0 == third.feed.num_fed_tokens
        board.loop.remove(third)  # it never had a slot
        board.loop.remove(first)
        assert (fourth.channel, "ready", []) == await board.next()
        board.verdict(fourth, 20)
        assert (fourth.channel, "draft", greedy(fourth, 2)) == await board.next()

    with_board(FaultyDrafter(), scene)


def test_removing_a_stream_twice_changes_nothing() -> None:
    async def scene(board: Board) -> None:
        first, second = await board.open_to_draft(), await board.open_to_draft()
        board.loop.remove(first)
        board.loop.remove(first)
        board.verdict(second, 20)
        assert (1, "draft", greedy(second, 2)) == await board.next()

    with_board(FaultyDrafter(), scene)


def test_what_was_computed_for_a_removed_stream_is_for_nobody() -> None:
    async def scene(board: Board) -> None:
        first = await board.open_to_draft()
        board.drafter.gate.clear()
        board.drafter.started.clear()
        board.verdict(first, 20)
        assert await asyncio.to_thread(board.drafter.started.wait, 10)
        board.loop.remove(first)
        second = board.open()
        board.drafter.gate.set()
        assert (second.channel, "ready", []) == await board.next()
        board.verdict(second, 20)
        assert (second.channel, "draft", greedy(second, 2)) == await board.next()

    with_board(FaultyDrafter(num_slots=1), scene)


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ModelError("it broke"), OutOfCache("no room")])
def test_a_stream_that_the_model_fails_passes_and_takes_no_other_with_it(error: Exception) -> None:
    async def scene(board: Board) -> None:
        broken = await board.open_to_draft("rejection")
        other = await board.open_to_draft()
        board.drafter.errors[0] = error
        for stream in (broken, other):
            board.verdict(stream, 20)
        answers = sorted([await board.next(), await board.next()])
        assert [(0, "draft", []), (1, "draft", greedy(other, 2))] == answers

    with_board(FaultyDrafter(), scene)


def test_a_failing_model_is_asked_once_for_each_verdict() -> None:
    async def scene(board: Board) -> None:
        stream = await board.open_to_draft("rejection")
        board.drafter.errors[0] = ModelError("it broke")
        for num_verdicts in range(1, 4):
            board.drafter.batches.clear()
            board.verdict(stream, 20 + num_verdicts)
            assert (0, "draft", []) == await board.next()
            assert (1, None) == (await idle(board), stream.next_step())

    with_board(FaultyDrafter(), scene)


def test_a_model_that_works_again_drafts_again() -> None:
    async def scene(board: Board) -> None:
        stream = await board.open_to_draft(num_prompt=40)
        board.drafter.errors[0] = ModelError("it broke")
        board.verdict(stream, 20)
        assert (0, "draft", []) == await board.next()
        board.drafter.errors.clear()
        board.verdict(stream, 21)
        assert (0, "draft", []) == await board.next()  # it reads first
        await until(lambda: stream.num_tokens - stream.feed.num_fed_tokens <= CHUNK_TOKENS)
        board.verdict(stream, 22)
        assert (0, "draft", greedy(stream, 2)) == await board.next()

    with_board(FaultyDrafter(), scene)


def test_a_model_that_fails_on_the_prompt_does_not_spin() -> None:
    async def scene(board: Board) -> None:
        board.drafter.errors[0] = ModelError("it broke")
        stream = board.open(num_prompt=20)
        await until(lambda: stream.next_step() is None)
        assert 1 == await idle(board)
        board.drafter.errors.clear()
        board.verdict(stream, 20, window=0)
        assert (0, "ready", []) == await board.next()

    with_board(FaultyDrafter(), scene)


def test_a_batch_that_broke_the_cache_is_read_again() -> None:
    """Slots that lost their tokens to somebody else's failure start over and go on."""

    async def scene(board: Board) -> None:
        broken, other = await board.open_to_draft("rejection"), await board.open_to_draft()
        board.drafter.breaks.add(0)
        for stream in (broken, other):
            board.verdict(stream, 20)
        answers = sorted([await board.next(), await board.next()])
        assert [(0, "draft", []), (1, "draft", greedy(other, 2))] == answers

    with_board(FaultyDrafter(), scene)


def test_logits_that_are_no_numbers_fail_one_stream() -> None:
    async def scene(board: Board) -> None:
        broken, other = await board.open_to_draft("rejection"), await board.open_to_draft()
        board.drafter.undefined.add(49)
        board.verdict(broken, 49)
        board.verdict(other, 20)
        answers = sorted([await board.next(), await board.next()])
        assert [(0, "draft", []), (1, "draft", greedy(other, 2))] == answers

    with_board(FaultyDrafter(), scene)


def test_a_model_that_cannot_roll_back_reads_that_stream_again() -> None:
    async def scene(board: Board) -> None:
        forgetful, other = await board.open_to_draft(num_prompt=12), await board.open_to_draft()
        for stream in (forgetful, other):
            board.verdict(stream, 20)
        for _ in range(2):
            await board.next()
        board.drafter.batches.clear()
        wrong = (forgetful.path.live[0].token_id + 1) % VOCAB_SIZE
        board.verdict(forgetful, wrong)
        board.verdict(other, other.path.live[0].token_id)
        drafts = {channel: ids async for channel, _, ids in answers_of(board, 2)}
        assert greedy(forgetful, 2) == drafts[0]
        # 12 of the prompt and 2 more at once, behind what the other stream went on with.
        assert 14 in [batch[0] for batch in board.drafter.batches if 0 in batch]
        assert 14 not in [batch[1] for batch in board.drafter.batches if 1 in batch]

    with_board(FaultyDrafter(forgets=True), scene)


async def answers_of(board: Board, num: int) -> AsyncIterator[tuple[int, str, list[int]]]:
    for _ in range(num):
        yield await board.next()


def test_a_long_stream_is_read_again_in_small_steps_and_nobody_waits_for_it() -> None:
    async def scene(board: Board) -> None:
        stream = await board.open_to_draft("rejection", num_prompt=60)
        board.verdict(stream, 20)
        _, _, first = await board.next()
        board.drafter.batches.clear()
        board.verdict(stream, (first[0] + 1) % VOCAB_SIZE)
        assert (0, "draft", []) == await board.next()
        await until(lambda: stream.num_tokens - stream.feed.num_fed_tokens == 1)
        assert [{0: 16}, {0: 16}, {0: 16}, {0: 13}] == board.drafter.batches

    with_board(FaultyDrafter(forgets=True), scene)


def test_a_series_of_failures_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(board: Board) -> None:
        stream = await board.open_to_draft("rejection")
        for is_broken in (True, True, False, True):
            board.drafter.errors = {0: ModelError("it broke")} if is_broken else {}
            board.verdict(stream, 20, window=2)
            await board.next()

    with caplog.at_level(logging.DEBUG, "edge_agent.drafting.loop"):
        with_board(FaultyDrafter(num_slots=1), scene)
    assert [logging.WARNING, logging.DEBUG, logging.WARNING] == [
        record.levelno for record in caplog.records
    ]


def test_an_interruption_from_elsewhere_costs_the_step() -> None:
    async def scene(board: Board) -> None:
        stream = await board.open_to_draft()
        board.drafter.errors[0] = DraftInterrupted()
        board.drafter.gate.clear()
        board.drafter.started.clear()
        board.verdict(stream, 20)
        assert await asyncio.to_thread(board.drafter.started.wait, 10)
        board.drafter.gate.set()
        await until(lambda: len(board.drafter.batches) >= 3)
        board.drafter.errors.clear()
        assert (0, "draft", greedy(stream, 2)) == await board.next()

    with_board(FaultyDrafter(), scene)


def test_a_step_whose_tokens_a_verdict_made_wrong_is_aborted() -> None:
    async def scene(board: Board) -> None:
        stream = await board.open_to_draft()
        board.verdict(stream, 20, window=2)
        _, _, (_, second) = await board.next()
        board.drafter.seconds_per_token = 1000.0
        board.drafter.started.clear()
        board.verdict(stream, accepted=1, window=4)  # so the second one is fed now
        assert await asyncio.to_thread(board.drafter.started.wait, 10)
        board.drafter.seconds_per_token = 0.0
        board.verdict(stream, (second + 1) % VOCAB_SIZE, window=2)
        while board.sent.empty():  # an interruption before the step has begun is for nobody
            board.loop.wake()
            await asyncio.sleep(0)
        assert (0, "draft", greedy(stream, 2)) == await board.next()

    with_board(FaultyDrafter(), scene)


def test_a_step_that_still_feeds_what_is_right_goes_on() -> None:
    async def scene(board: Board) -> None:
        stream = await board.open_to_draft()
        board.verdict(stream, 20, window=2)
        _, _, (_, second) = await board.next()
        board.drafter.gate.clear()
        board.drafter.started.clear()
        board.verdict(stream, accepted=1, window=4)
        assert await asyncio.to_thread(board.drafter.started.wait, 10)
        num_batches = len(board.drafter.batches)
        board.verdict(stream, second, window=4)
        board.drafter.gate.set()
        expected = greedy(stream, 4)
        assert (0, "draft", expected[:2]) == await board.next()
        assert {1} == {sum(batch.values()) for batch in board.drafter.batches[num_batches:]}

    with_board(FaultyDrafter(), scene)


# --- the end --------------------------------------------------------------------------------------


def test_the_end_interrupts_a_step_that_takes_long() -> None:
    async def scene(board: Board) -> None:
        board.drafter.started.clear()
        board.open()
        assert await asyncio.to_thread(board.drafter.started.wait, 10)

    with_board(FaultyDrafter(seconds_per_token=1000.0), scene)


def test_who_watches_sees_since_when_the_model_computes_and_how_fast_it_drafts() -> None:
    async def scene(board: Board) -> None:
        stream = await board.open_to_draft()
        await eventually(lambda: board.loop.computing_since is None)
        board.drafter.started.clear()
        board.drafter.gate.clear()
        before = time.monotonic()
        board.verdict(stream, 1)
        assert await asyncio.to_thread(board.drafter.started.wait, 10)
        assert board.loop.computing_since is not None
        assert before <= board.loop.computing_since <= time.monotonic()
        board.drafter.gate.set()
        await board.next()
        await eventually(lambda: board.loop.computing_since is None)
        assert 0 < board.loop.draft_token_seconds < time.monotonic() - before

    with_board(FaultyDrafter(), scene)
