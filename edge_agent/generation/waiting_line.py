"""Requests beyond what the verifier takes at once: they wait in line, so many and for so long.

This module must never begin a generation; `edge_agent.generation.queued_generator` does.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable

import msgspec

from shared.errors import TooManyStreams

# How often the head of the line looks whether the verifier takes more than it did.
LOOK_SECONDS = 1.0
# Of the prompts that wait, in characters: a board has little memory.
MAX_WAITING_CHARACTERS = 32 << 20
# What is known of the seconds that an answer takes is a mean of about so many.
_NUM_REMEMBERED = 8
_RETRY_SECONDS = 5  # while nothing is known of them


class LineLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long the line may be, and for how long a request may stand in it."""

    max_requests: int = 64
    seconds: float = 120.0


class Place(msgspec.Struct, frozen=True):
    """Where in the line a request stands."""

    num_ahead: int  # requests that wait, too
    seconds: int | None  # until it will run, as far as can be told


class WaitingLine:
    """First come, first served; `capacity` says how many may run now, None: nothing is known."""

    def __init__(self, capacity: Callable[[], int | None], limits: LineLimits) -> None:
        self._capacity = capacity
        self._limits = limits
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._names: dict[int, asyncio.Future[None]] = {}  # of those that have one
        self._num_characters = 0  # of those that wait
        self._num_running = 0
        self._closed_until = 0.0  # the verifier took fewer than it said it would
        self._look: asyncio.TimerHandle | None = None
        self._mean_seconds: float | None = None  # of a place

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def place_of(self, name: int) -> Place | None:
        """Where the request of this name stands; None: it does not wait, or has never come."""
        turn = self._names.get(name)
        if turn is None or turn not in self._waiting:
            return None
        num_ahead = self._waiting.index(turn)
        if self._mean_seconds is None:
            return Place(num_ahead, None)
        return Place(num_ahead, self._seconds_for(num_ahead + 1))

    async def enter(
        self, name: int | None, num_characters: int, gives_up_at: float, *, is_back: bool
    ) -> float:
        """Wait for a place, of which `leave` must be told; the loop's time when it was given.

        One that `is_back` had a place that was none, and stands before the others. It `gives_up_at`
        a time of the loop.

        Raises:
            TooManyStreams: the line is too long, or it took too long.
        """
        loop = asyncio.get_running_loop()
        if is_back or self._waiting or not self._has_room():
            if not is_back:
                self._check_length(num_characters)
            await self._wait(name, num_characters, gives_up_at, is_back=is_back)
        else:
            self._num_running += 1
        return loop.time()

    def leave(self, entered_at: float, *, was_refused: bool = False) -> None:
        """A place is free again; if it `was_refused`, it was none, and no other is for a moment."""
        now = asyncio.get_running_loop().time()
        self._num_running -= 1
        if was_refused:
            self._closed_until = now + LOOK_SECONDS
            return
        seconds = now - entered_at
        mean = seconds if self._mean_seconds is None else self._mean_seconds
        self._mean_seconds = mean + (seconds - mean) / _NUM_REMEMBERED
        self._closed_until = 0.0
        self._admit()

    def _has_room(self) -> bool:
        """Where nothing is known, the first one finds out; those that wait wait on."""
        if asyncio.get_running_loop().time() < self._closed_until:
            return False
        capacity = self._capacity()
        if capacity is None:
            return not self._waiting
        return self._num_running < capacity

    def _check_length(self, num_characters: int) -> None:
        most = self._limits.max_requests
        num_ahead = len(self._waiting)
        if num_ahead < most and self._num_characters + num_characters <= MAX_WAITING_CHARACTERS:
            return
        what = f"{num_ahead} requests wait for a place already (api.max_queued_requests = {most})"
        if num_ahead < most:
            what = f"the prompts of {num_ahead} requests that wait are too long for another one"
        raise TooManyStreams(what, self._seconds_for(1))

    def _seconds_for(self, num_places: int) -> int:
        """Until the line will be shorter by so many, as far as can be told."""
        if self._mean_seconds is None:
            return _RETRY_SECONDS
        capacity = max(self._capacity() or 1, 1)
        return max(math.ceil(num_places * self._mean_seconds / capacity), 1)

    async def _wait(
        self, name: int | None, num_characters: int, gives_up_at: float, *, is_back: bool
    ) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if name is not None:
            self._names[name] = turn
        (self._waiting.appendleft if is_back else self._waiting.append)(turn)
        self._num_characters += num_characters
        self._look_again()
        try:
            async with asyncio.timeout_at(gives_up_at):
                await turn
        except TimeoutError:
            if self._gave_turn(turn):
                return
            seconds = f"{self._limits.seconds:g}"
            sentence = f"no place was free within {seconds} s (api.queue_timeout)"
            raise TooManyStreams(sentence, self._seconds_for(1)) from None
        except asyncio.CancelledError:
            if self._gave_turn(turn):
                self._num_running -= 1
                self._admit()
            raise
        finally:
            self._num_characters -= num_characters
            if name is not None:
                self._names.pop(name, None)
            if turn in self._waiting:
                self._waiting.remove(turn)
            if not self._waiting and self._look is not None:
                self._look.cancel()
                self._look = None

    def _gave_turn(self, turn: asyncio.Future[None]) -> bool:
        return turn.done() and not turn.cancelled()

    def _admit(self) -> None:
        while self._waiting and self._has_room():
            turn = self._waiting.popleft()
            if not turn.done():
                self._num_running += 1
                turn.set_result(None)

    def _look_again(self) -> None:
        """The verifier may take more soon: another one, or the same with its streams ended."""
        if self._look is None:
            loop = asyncio.get_running_loop()
            self._look = loop.call_later(LOOK_SECONDS, self._on_look)

    def _on_look(self) -> None:
        self._look = None
        self._admit()
        if self._waiting:
            self._look_again()
