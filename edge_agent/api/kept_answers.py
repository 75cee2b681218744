"""Answers that outlive their sockets: each generation runs in a task of its own and keeps its text.

A client that lost its socket comes back by the answer's id and reads on where it was. No client
keeps a board busy that way: an answer without a reader ends after a while, and few are kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager

import msgspec

from edge_agent.generation.chat_messages import ChatError, ChatFinished, Text
from edge_agent.generation.generation import (
    Events,
    Finished,
    GenerationRequest,
    Generator,
    new_stream_id,
    resume_generation,
    start_generation,
)
from shared.errors import GoodspeedError, LocalProtocolError, RequestRefused, TooManyStreams

logger = logging.getLogger(__name__)

# How long an answer is kept, and goes on, for a client that is gone.
GRACE_SECONDS = 60.0
# Answers whose clients are gone or have read them; the one that is kept for longest makes room.
MAX_KEPT_ANSWERS = 32
STOP_SECONDS = 5.0  # for a generation to end after it was cancelled

End = ChatFinished | ChatError


class Answer:
    """One generation: its text so far, and at most one reader."""

    def __init__(
        self,
        answer_id: int,
        events: AbstractAsyncContextManager[Events],
        *,
        is_resumed: bool = False,
    ) -> None:
        self.id = answer_id
        self.expiry: asyncio.TimerHandle | None = None  # while no client reads
        self._is_resumed = is_resumed
        self._texts: list[Text] = []
        self._num_told = 0  # texts up to the last one with figures
        self._end: End | None = None
        self._reader: object = None
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._generate(events), name="chat generation")

    def is_read_by(self, reader: object) -> bool:
        """Whether this is the latest reader."""
        return self._reader is reader

    def read(self, reader: object, num_characters: int = 0) -> AsyncGenerator[Text | End]:
        """What follows the first characters (code points): texts as they come, then the end.

        A reader that came before this one is told so.
        """
        self._reader = reader
        self._news.set()
        return self._read(reader, num_characters)

    async def stop(self) -> None:
        """End the generation; readers hear nothing more."""
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=STOP_SECONDS)

    async def _read(self, reader: object, num_known: int) -> AsyncGenerator[Text | End]:
        num_texts = 0
        while True:
            if not self.is_read_by(reader):
                yield ChatError("the answer goes on at another connection of its client")
                return
            for text in self._texts[num_texts:]:
                num_texts += 1
                rest = text.text[num_known:]
                num_known -= min(num_known, len(text.text))
                if rest:
                    yield msgspec.structs.replace(text, text=rest)
            if num_texts < len(self._texts):
                continue
            if self._end is not None:
                yield self._end if not num_known else _too_far(num_known)
                return
            self._news.clear()
            await self._news.wait()

    async def _generate(self, events: AbstractAsyncContextManager[Events]) -> None:
        try:
            end: End = await self._collect(events)
        except RequestRefused as error:
            end = ChatError(str(error), error.field)
        except TooManyStreams as error:
            end = ChatError(str(error), retry_after_seconds=error.retry_after_seconds)
        except GoodspeedError as error:
            end = ChatError(str(error))
        except Exception:
            logger.exception("an answer failed")
            end = ChatError("the agent failed; its log says why")
        self._end = end
        self._news.set()

    async def _collect(self, generation: AbstractAsyncContextManager[Events]) -> ChatFinished:
        async with generation as events:
            async for event in events:
                if isinstance(event, Finished):
                    # Most of a resumed answer was not made in the time that was measured.
                    timings = None if self._is_resumed else event.timings
                    return ChatFinished(event.reason, timings, event.seed, event.acceptance_mode)
                text = (event.text, event.origin, event.reason, event.so_far, event.part)
                self._keep(Text(*text))
        raise LocalProtocolError("the generation ended without a finish")

    def _keep(self, text: Text) -> None:
        if text.so_far is not None:
            if self._num_told:  # only the newest figures are kept: all would be most of an answer
                told = self._texts[self._num_told - 1]
                self._texts[self._num_told - 1] = msgspec.structs.replace(told, so_far=None)
            self._num_told = len(self._texts) + 1
        self._texts.append(text)
        self._news.set()


class KeptAnswers:
    """All answers of one agent, by id."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._answers: dict[int, Answer] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    def begin(self, request: GenerationRequest) -> Answer:
        """Start a generation."""
        answer_id = new_stream_id()
        named = msgspec.structs.replace(request, stream_id=answer_id)
        return self._add(Answer(answer_id, start_generation(self._generator, named)))

    def resume(self, answer_id: int) -> Answer:
        """The answer of this id, from the verifier if this agent was restarted meanwhile."""
        answer = self._answers.get(answer_id)
        if answer is None:
            events = resume_generation(self._generator, answer_id)
            return self._add(Answer(answer_id, events, is_resumed=True))
        if answer.expiry is not None:
            answer.expiry.cancel()
            answer.expiry = None
        return answer

    def leave(self, answer: Answer) -> None:
        """Its reader reads no more; the client may come back for it."""
        if answer.expiry is not None or self._answers.get(answer.id) is not answer:
            return
        loop = asyncio.get_running_loop()
        answer.expiry = loop.call_later(GRACE_SECONDS, self._expire, answer)
        left = [other for other in self._answers.values() if other.expiry is not None]
        if len(left) > MAX_KEPT_ANSWERS:
            self._expire(min(left, key=_expires_at))

    async def stop(self, answer: Answer) -> None:
        """End the answer for good."""
        self._answers.pop(answer.id, None)
        if answer.expiry is not None:
            answer.expiry.cancel()
        await answer.stop()

    async def stop_all(self) -> None:
        """End all of them."""
        await asyncio.gather(*(self.stop(answer) for answer in tuple(self._answers.values())))
        await asyncio.gather(*self._stopping)

    def _add(self, answer: Answer) -> Answer:
        self._answers[answer.id] = answer
        return answer

    def _expire(self, answer: Answer) -> None:
        stopping = asyncio.create_task(self.stop(answer), name="stop an answer")
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)


def _expires_at(answer: Answer) -> float:
    assert answer.expiry is not None, "a client reads it"
    return answer.expiry.when()


def _too_far(num_characters: int) -> ChatError:
    sentence = f"num_characters goes {num_characters} beyond the end of the answer"
    return ChatError(sentence, "num_characters")
