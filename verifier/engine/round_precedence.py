"""Lets a round that is over go before messages: they wait until the next one runs.

Hundreds of boards answer a round's verdicts at once; the target would stand still while the event
loop reads what they said. This module must never know what a message is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class RoundPrecedence:
    """Claimed in the engine's thread, given up on the event loop; messages `give_way`."""

    def __init__(self) -> None:
        self._is_claimed = False
        self._given_up = asyncio.Event()
        self._postponed: list[Callable[[], None]] = []

    def claim(self) -> None:
        """The target is done with a round; called in its thread, before the loop hears of it."""
        self._is_claimed = True

    def give_up(self) -> None:
        """The round is settled, and the next one is about to start, or there is none."""
        self._is_claimed = False
        self._given_up.set()
        if self._postponed:
            loop = asyncio.get_running_loop()
            for call in self._postponed:
                loop.call_soon(call)
            self._postponed.clear()

    def postpones(self, call: Callable[[], None]) -> bool:
        """Whether a round is over and goes first; then `call` is made when it is settled."""
        is_claimed = self._is_claimed  # once: the engine's thread may claim it between two looks
        if is_claimed:
            self._postponed.append(call)
        return is_claimed

    async def give_way(self) -> None:
        """Wait for the round that is over, if there is one, and for no other."""
        if self._is_claimed:
            self._given_up.clear()
            await self._given_up.wait()
