"""A world in parts, each in a process of its own; what they tell each other goes through this one.

This process plays the first part itself, hands every part's news to all, and gives the outcome.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar

from verifier.sim.many_verifiers.parts import Exchange, Part

_Outcome = TypeVar("_Outcome", covariant=True)
_END_SECONDS = 5.0


class PlayPart(Protocol[_Outcome]):
    """What each process calls; it must be importable by name, or a `partial` of such."""

    def __call__(
        self, part: Part, exchange: Exchange, advance: Callable[[float], None]
    ) -> _Outcome:
        """Play to the end; every part comes to the same."""
        ...


def play_in_parts(
    play: PlayPart[_Outcome], num_parts: int, advance: Callable[[float], None]
) -> _Outcome:
    """The outcome, whatever the number of parts.

    Raises:
        EOFError: a process ended before its part was over; the others are ended, too.
    """
    with _others(play, num_parts) as connections:

        def exchange(news: Any) -> Sequence[Any]:
            told = [news, *[connection.recv() for connection in connections]]
            for connection in connections:
                connection.send(told)
            return told

        return play(Part(0, num_parts), exchange, advance)


@contextmanager
def _others(play: PlayPart[Any], num_parts: int) -> Iterator[list[Connection]]:
    """Connections to processes that play the other parts; they are gone in the end."""
    context = get_context("spawn")  # not by fork: this process may have threads
    pairs = [context.Pipe() for _ in range(1, num_parts)]
    processes = [
        context.Process(target=_play_other, args=(play, Part(number, num_parts), there))
        for number, (_, there) in enumerate(pairs, start=1)
    ]
    try:
        for process, (_, there) in zip(processes, pairs, strict=True):
            process.start()
            there.close()
        yield [here for here, _ in pairs]
    finally:
        for here, _ in pairs:
            here.close()
        for process in processes:
            process.join(_END_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()


def _play_other(play: PlayPart[Any], part: Part, connection: Connection) -> None:
    # A terminal interrupts all processes of a command; the first one sees to it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def exchange(news: Any) -> Sequence[Any]:
        connection.send(news)
        told: Sequence[Any] = connection.recv()
        return told

    try:
        play(part, exchange, lambda part: None)
    except (EOFError, ConnectionError):  # the first process has ended
        return
