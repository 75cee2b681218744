"""One verifier and any number of agents in this process, over real loopback websockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from edge_agent.draft_model.drafter import Drafter
from edge_agent.drafting.settings import DraftSettings
from edge_agent.generation.agent import Agent
from edge_agent.generation.generation import Finished, GenerationRequest, TextPiece
from shared.daemon.http_server import listen
from shared.protocol.board_health import BoardHealth
from shared.protocol.messages import ChatMessage
from tests.support.ends.limits import (
    make_budget_limits,
    make_device_limits,
    make_round_settings,
    make_schedule_settings,
)
from tests.support.ends.waiting import eventually
from verifier.config import LimitsSection
from verifier.cost_curve.curve import CostCurve
from verifier.engine.metrics import Metrics
from verifier.engine.service import ServiceLimits, VerifierService
from verifier.policies import DraftPolicy, FixedPolicy
from verifier.rounds.blocks import BlockPool
from verifier.rounds.planner import RoundPlanner, RoundSettings
from verifier.server.device_limits import DeviceLimits
from verifier.server.device_tokens import new_token
from verifier.server.gauges.planner_gauges import PlannerGauges
from verifier.server.server import VerifierServer
from verifier.target.target import TargetModel, Tokenizer

DRAFT_SETTINGS = DraftSettings(
    row_entries=32, confidence_stop=0.0, prefill_chunk_tokens=64, context_tokens=2048
)
# Of servers that are told nothing else; a test module may want all of its own behind doors.
NUM_DOORS = 0
FLAT_CURVE = CostCurve.from_samples([(1, 64, 0.01), (64, 64, 0.02)])


@dataclass
class Verifier:
    """A running verifier."""

    service: VerifierService
    server: VerifierServer
    port: int
    tokens: dict[str, str]  # device -> token

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


def round_settings(
    *,
    max_draft_length: int = 8,
    max_window: int = 17,
    budget_tokens: int | None = 256,
    uses_guard: bool = False,
    draft_timeout_seconds: float = 30.0,
    is_barrier: bool = False,
) -> RoundSettings:
    """Settings that let boards draft as much as they can."""
    return make_round_settings(
        schedule=make_schedule_settings(
            limits=make_budget_limits(max_round_tokens=1024, budget_tokens=budget_tokens),
            max_draft_length=max_draft_length,
            max_window=max_window,
            uses_guard=uses_guard,
        ),
        prefill_chunk_tokens=64,
        draft_timeout_seconds=draft_timeout_seconds,
        is_barrier=is_barrier,
    )


def make_service(
    target: TargetModel,
    tokenizer: Tokenizer,
    settings: RoundSettings | None = None,
    policy: DraftPolicy | None = None,
    curve: CostCurve = FLAT_CURVE,
    max_streams_per_device: int = 64,
) -> VerifierService:
    """A verifier without a port."""
    planner = RoundPlanner(
        settings or round_settings(),
        policy or FixedPolicy(8),
        curve,
        BlockPool(target.num_blocks, target.block_tokens),
    )
    metrics = Metrics()
    service = VerifierService(
        planner,
        target,
        tokenizer,
        ServiceLimits(
            context_tokens=target.context_tokens,
            max_prompt_tokens=target.context_tokens,
            max_tokens=target.context_tokens,
            max_streams_per_device=max_streams_per_device,
            grace_seconds=LimitsSection().grace_seconds,
        ),
        metrics,
    )
    metrics.watch(PlannerGauges(planner, service.devices))
    return service


def make_server(
    service: VerifierService,
    tokens: Mapping[str, str],
    *,
    heartbeat_seconds: float = 20.0,
    max_connections: int = 100,
    device_limits: DeviceLimits | None = None,
    **options: Any,
) -> VerifierServer:
    """A port that is not served yet; `tokens` maps devices to hashes."""
    options.setdefault("num_doors", NUM_DOORS)
    return VerifierServer(
        service,
        tokens,
        heartbeat_seconds=heartbeat_seconds,
        max_connections=max_connections,
        device_limits=device_limits or make_device_limits(),
        **options,
    )


@asynccontextmanager
async def running_verifier(
    service: VerifierService,
    devices: Sequence[str] = ("board",),
    port: int = 0,
    device_limits: DeviceLimits | None = None,
    max_connections: int = 100,
    heartbeat_seconds: float = 20.0,
    **options: Any,
) -> AsyncIterator[Verifier]:
    """Serve `service`; every device has a token. `options` are the server's."""
    made = {device: new_token(device, bytes(range(32))) for device in devices}
    known = dict(line.split() for _, line in made.values())
    server = make_server(
        service,
        known,
        heartbeat_seconds=heartbeat_seconds,
        max_connections=max_connections,
        device_limits=device_limits,
        **options,
    )
    try:
        sockets = listen("127.0.0.1", port)
        await server.start(sockets)
        actual = sockets[0].getsockname()[1]
        yield Verifier(service, server, actual, {name: token for name, (token, _) in made.items()})
    finally:
        await server.stop()


@asynccontextmanager
async def running_agent(
    verifier: Verifier,
    drafter: Drafter,
    device: str = "board",
    settings: DraftSettings = DRAFT_SETTINGS,
    url: str | None = None,
    read_health: Callable[[], BoardHealth] = BoardHealth,
    **options: Any,
) -> AsyncIterator[Agent]:
    """An agent that is connected when the block begins. `options` are the agent's."""
    agent = Agent(
        drafter,
        settings,
        url=url or verifier.url,
        token=verifier.tokens[device],
        read_health=read_health,
        **options,
    )
    task = asyncio.create_task(agent.run(), name=f"agent-{device}")
    try:
        await eventually(lambda: agent.target_model is not None or task.done())
        if task.done():
            task.result()
        yield agent
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def loopback(
    service: VerifierService,
    drafters: Sequence[Drafter],
    settings: DraftSettings = DRAFT_SETTINGS,
) -> AsyncIterator[tuple[Verifier, list[Agent]]]:
    """A verifier with one connected agent for each drafter."""
    names = [f"board-{i}" for i in range(len(drafters))]
    async with AsyncExitStack() as stack:
        verifier = await stack.enter_async_context(running_verifier(service, names))
        agents = [
            await stack.enter_async_context(running_agent(verifier, drafter, name, settings))
            for name, drafter in zip(names, drafters, strict=True)
        ]
        yield verifier, agents


async def generate(agent: Agent, request: GenerationRequest) -> tuple[str, Finished]:
    """The whole text of one generation and how it ended."""
    pieces: list[str] = []
    async for event in agent.generate(request):
        if isinstance(event, TextPiece):
            pieces.append(event.text)
        else:
            return "".join(pieces), event
    raise AssertionError("the generation ended without Finished")


def chat(prompt: str) -> tuple[ChatMessage, ...]:
    """One user turn."""
    return (ChatMessage("user", prompt),)
