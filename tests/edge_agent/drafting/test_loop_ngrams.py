"""The drafting loop where streams look up what came before: with a model, in a queue, without."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from edge_agent.drafting.settings import DraftSettings
from edge_agent.drafting.stream import AgentStream
from shared.protocol.messages import AcceptanceMode, Opened
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.edge_agent.drafting.test_loop import VOCAB_SIZE, Board, FaultyDrafter, greedy, with_board

# 1, 2, 3 was followed by 4, 5, …, 9.
PROMPT = (1, 2, 3, 4, 5, 6, 7, 8, 9, 40, 41, 1, 2)


class RepeatingBoard(Board):
    """Its streams may repeat their prompt."""

    def repeat(
        self,
        mode: AcceptanceMode = "coupled",
        prompt_ids: tuple[int, ...] = PROMPT,
        *,
        has_model: bool = True,
    ) -> AgentStream:
        """Add a stream, which the verifier then opens."""
        settings = DraftSettings(8, 0.0, 16, 1000, ngram_tokens=4, has_model=has_model)
        sampling = GREEDY if mode == "coupled" else SamplingParameters()
        stream = AgentStream(self._next_channel, VOCAB_SIZE, settings, sampling, drafts=True)
        self._next_channel += 1
        self.loop.add(stream)
        stream.start(Opened(stream.channel, pack_token_ids(prompt_ids), 7, mode))
        self.loop.wake()
        return stream


def play(drafter: FaultyDrafter, scene: Callable[[RepeatingBoard], Awaitable[None]]) -> None:
    async def run() -> None:
        board = RepeatingBoard(drafter)
        task = asyncio.create_task(board.loop.run())
        try:
            await scene(board)
        finally:
            drafter.gate.set()
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(run())


def test_a_stream_is_ready_and_drafts_while_the_model_has_not_read_a_token() -> None:
    async def scene(board: RepeatingBoard) -> None:
        board.drafter.gate.clear()
        stream = board.repeat(prompt_ids=(*PROMPT[:11], *range(11, 40), 1, 2))
        assert (0, "ready", []) == await board.next()
        board.verdict(stream, 3, window=4)
        assert (0, "draft", [4, 5, 6, 7]) == await board.next()
        assert 0 == stream.feed.num_fed_tokens

    play(FaultyDrafter(), scene)


def test_a_board_without_a_model_never_computes() -> None:
    async def scene(board: RepeatingBoard) -> None:
        stream = board.repeat("rejection", (*PROMPT, 3), has_model=False)
        assert (0, "ready", []) == await board.next()
        board.verdict(stream, 4, window=2)
        assert (0, "draft", [5, 6]) == await board.next()
        board.verdict(stream, 33)
        assert (0, "draft", []) == await board.next()
        board.loop.remove(stream)
        assert [] == board.drafter.batches

    play(FaultyDrafter(), scene)


def test_a_stream_that_waits_for_a_slot_repeats_and_then_gets_the_model() -> None:
    async def scene(board: RepeatingBoard) -> None:
        first = await board.open_to_draft()
        second = board.repeat()
        assert (1, "ready", []) == await board.next()
        board.verdict(second, 3, window=2)
        assert (1, "draft", [4, 5]) == await board.next()
        assert 0 == second.feed.num_fed_tokens
        board.loop.remove(first)
        board.verdict(second, 45)  # seen never before: the model draws
        assert (1, "draft", greedy(second, 2)) == await board.next()

    play(FaultyDrafter(num_slots=1), scene)


def test_what_one_stream_showed_the_next_one_believes() -> None:
    async def scene(board: RepeatingBoard) -> None:
        first = board.repeat(has_model=False)
        before = first.drafter_choice.rates.ngram.rate(4)
        for token_id in (3, *[30 + i for i in range(15)] * 2):
            board.verdict(first, token_id)
        board.loop.remove(first)
        second = board.repeat(has_model=False)
        assert before != second.drafter_choice.rates.ngram.rate(4)

    play(FaultyDrafter(), scene)


def test_when_it_is_off_nothing_is_said_before_the_prompt_is_read() -> None:
    async def scene(board: Board) -> None:
        board.drafter.gate.clear()
        stream = board.open()
        board.loop.wake()
        assert (0, True) == (board.sent.qsize(), stream.has_model)

    with_board(FaultyDrafter(), scene)
