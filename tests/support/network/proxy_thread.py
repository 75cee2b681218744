"""The chaos proxy in a thread of its own, for tests and benchmarks without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.support.network.chaos_lane import CALM, Weather
from tests.support.network.chaos_proxy import Address, ChaosProxy

_SECONDS = 10.0


class ProxyThread:
    """A chaos proxy that runs within `with`."""

    def __init__(self, target: Address, weather: Weather = CALM, *, seed: int = 0) -> None:
        self._proxy = ChaosProxy(target, weather, seed=seed)
        self._loop = asyncio.new_event_loop()
        self._is_over = asyncio.Event()
        self._is_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-proxy")

    @property
    def url(self) -> str:
        return self._proxy.url

    @property
    def num_connections(self) -> int:
        """Connections that were made so far."""
        return self._proxy.num_connections

    def change(self, weather: Weather) -> None:
        """Let this weather hold in both directions, for living connections, too."""
        self._call(lambda: setattr(self._proxy, "weather", weather))

    def reset(self) -> None:
        """Reset every open connection."""
        self._call(self._proxy.reset)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._is_up.wait(_SECONDS), "the proxy does not start"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._is_over.set)
        self._thread.join(_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with self._proxy:
            self._is_up.set()
            await self._is_over.wait()

    def _call(self, change: Callable[[], None]) -> None:
        async def changed() -> None:
            change()

        asyncio.run_coroutine_threadsafe(changed(), self._loop).result(_SECONDS)
