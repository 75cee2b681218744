"""The verifier's own engine on an event loop in virtual time, in place of the simulator's end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.ends.virtual_time import VirtualTimeLoop
from verifier.engine import engine as engine_module
from verifier.engine.engine import Engine, RoundReport
from verifier.engine.round_watcher import RoundWatcher
from verifier.rounds.planner import RoundPlanner, StreamResult
from verifier.sim.clock import Clock
from verifier.sim.round_model import RoundModel
from verifier.sim.scenario import Scenario
from verifier.sim.verifier_end import VerifierEnd, scripted_outcome
from verifier.sim.world import World
from verifier.target.round import Round, RoundOutcome


class LoopClock:
    """An event loop's time as the parts of a world know it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    @property
    def now(self) -> float:
        return self._loop.time()

    def call_at(self, when: float, callback: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_at(when, callback, *arguments)


class _EngineLoop(VirtualTimeLoop):
    """What a thread does is done at once; its result comes when the round is over."""

    round_seconds = 0.0

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        result = func(*args)
        future = self.create_future()
        self.call_later(self.round_seconds, future.set_result, result)
        return future


class EngineEnd(VerifierEnd):
    """As the simulator's end, but the engine decides when what happens."""

    def __init__(
        self,
        clock: Clock,
        planner: RoundPlanner,
        rounds: RoundModel,
        deliver: Callable[[list[StreamResult]], None],
        report: Callable[[Round, float], None],
        watcher: RoundWatcher | None = None,
    ) -> None:
        super().__init__(clock, planner, rounds, deliver, report)
        self.engine = Engine(planner, self, self._hand_out, self._told)  # type: ignore[arg-type]
        self._take = deliver
        self._count = report
        self._watcher = watcher

    def wake(self) -> None:
        self.engine.wake()

    def run(self, round_: Round) -> RoundOutcome:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, _EngineLoop)
        loop.round_seconds = self._rounds.seconds(round_)
        return scripted_outcome(round_, self.texts, loop.round_seconds)

    def _hand_out(self, results: list[StreamResult]) -> None:
        self._take(results)
        if self._watcher is not None:
            for result in results:
                self._watcher.observe_result(result)

    def _told(self, report: RoundReport) -> None:
        self._count(report.round_, report.forward_seconds)
        if self._watcher is not None:
            self._watcher.observe_round(report)


def play_on_the_engine(
    scenario: Scenario,
    patch: pytest.MonkeyPatch,
    make_watcher: Callable[[], RoundWatcher | None] = lambda: None,
) -> World:
    """The scenario played by the engine; a watcher is made when virtual time begins."""

    async def play() -> World:
        loop = asyncio.get_running_loop()
        patch.setattr(engine_module.time, "monotonic", loop.time)
        ends: list[EngineEnd] = []

        def make_end(*arguments: Any) -> EngineEnd:
            ends.append(EngineEnd(*arguments, make_watcher()))
            return ends[0]

        world = World(scenario, LoopClock(loop), make_end=make_end)
        running = asyncio.ensure_future(ends[0].engine.run())
        await asyncio.sleep(scenario.run.seconds)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        world.end()
        return world

    with asyncio.Runner(loop_factory=_EngineLoop) as runner:
        return runner.run(play())
