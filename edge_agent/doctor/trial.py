"""A short trial at the real verifier: the same prompts with drafts and without, in turn."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from edge_agent.doctor.speed_findings import Trial
from edge_agent.generation.agent import Agent
from edge_agent.generation.generation import (
    Finished,
    GenerationRequest,
    TextPiece,
    Timings,
    start_generation,
)
from shared.errors import LinkLost
from shared.protocol.messages import ChatMessage
from shared.speculation.sampling import GREEDY

_PROMPTS = (
    "Tell me a short story about a lighthouse.",
    "Explain in a few sentences how rain comes about.",
    "Write a function in Python that says whether a number is prime.",
)
_TRIAL_TOKENS = 64
_CONNECT_SECONDS = 15.0
_LOOK_AGAIN_SECONDS = 0.02


async def try_out(agent: Agent, seconds: float, now: Callable[[], float] = time.monotonic) -> Trial:
    """Generate for about so many seconds with an agent that does not run yet.

    Raises:
        LinkLost: there is no verifier in time.
        GoodspeedError: the verifier refuses.
    """
    running = asyncio.create_task(agent.run(), name="doctor's trial")
    try:
        await _connected(agent, running)
        runs: list[tuple[Timings | None, Timings | None]] = []
        deadline = now() + seconds
        for prompt in _PROMPTS:
            share = max(0.5, (deadline - now()) / 2 / (len(_PROMPTS) - len(runs)))
            without = await _generate(agent, prompt, share, draft_length=0)
            with_drafts = await _generate(agent, prompt, share, draft_length=None)
            runs.append((with_drafts, without))
    finally:
        running.cancel()
        await asyncio.wait([running])
    return _added_up([r for r, _ in runs if r], [r for _, r in runs if r])


async def _connected(agent: Agent, running: asyncio.Task[None]) -> None:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            while agent.target_model is None:
                if running.done():
                    running.result()
                await asyncio.sleep(_LOOK_AGAIN_SECONDS)
    except TimeoutError:
        raise LinkLost(
            f"the verifier did not take this board within {_CONNECT_SECONDS:g} s"
        ) from None


async def _generate(
    agent: Agent, prompt: str, seconds: float, draft_length: int | None
) -> Timings | None:
    """The times of one generation, cut off where it takes longer; None: nothing came."""
    request = GenerationRequest(
        messages=(ChatMessage("user", prompt),),
        sampling=GREEDY,
        seed=1,
        max_tokens=_TRIAL_TOKENS,
        draft_length=draft_length,
    )
    timings: Timings | None = None
    try:
        async with asyncio.timeout(seconds), start_generation(agent, request) as events:
            async for event in events:
                match event:
                    case TextPiece(so_far=Timings() as so_far):
                        timings = so_far
                    case Finished():
                        timings = event.timings
    except TimeoutError:
        pass  # what came until then is a measure, too
    return timings


def _added_up(with_drafts: Sequence[Timings], without: Sequence[Timings]) -> Trial:
    """The first token of each is left out: it waited for the prompt."""
    return Trial(
        tokens_with=sum(timings.output_tokens - 1 for timings in with_drafts),
        seconds_with=_seconds(with_drafts),
        tokens_without=sum(timings.output_tokens - 1 for timings in without),
        seconds_without=_seconds(without),
        survived_tokens=sum(timings.survived_tokens for timings in with_drafts),
        rejections=sum(timings.rejections for timings in with_drafts),
    )


def _seconds(runs: Sequence[Timings]) -> float:
    return max(1e-9, sum(run.total_seconds - run.seconds_to_first_token for run in runs))
