"""`goodspeed-agent run`: the agent itself, until a signal."""

from __future__ import annotations

import asyncio
import logging

import click

from edge_agent.config import AgentConfig
from edge_agent.draft_model.drafter import Drafter
from edge_agent.startup import (
    api_token,
    device_token,
    draft_settings,
    draft_token_seconds,
    load_drafter,
)
from shared.config.sections import Loaded
from shared.daemon.command_line import set_up_logging, settings_options
from shared.daemon.lifecycle import run_until, stop_at_signals

logger = logging.getLogger(__name__)


@click.command()
@settings_options(AgentConfig)
def run(loaded: Loaded[AgentConfig]) -> None:
    """Load the draft model, connect to the verifier, serve until SIGINT or SIGTERM."""
    config = loaded.config
    set_up_logging(config.log.level)
    token = device_token(config)
    clients_token = api_token(config.api)
    import uvloop

    drafter = load_drafter(config, token)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(config, drafter, token, clients_token))
    finally:
        drafter.close()


async def _serve(
    config: AgentConfig, drafter: Drafter, token: str, clients_token: str | None
) -> None:
    from edge_agent.api.access import LOOPBACK_HOSTS
    from edge_agent.api.app import build_app, build_runner, listen
    from edge_agent.generation.agent import Agent

    agent = Agent(
        drafter,
        draft_settings(config, drafter),
        url=config.verifier.url,
        token=token,
        draft_token_seconds=draft_token_seconds(config, drafter),
    )
    hosts = LOOPBACK_HOSTS if clients_token is None else None
    runner = build_runner(build_app(agent, api_token=clients_token, allowed_hosts=hosts))
    await runner.setup()
    listener: asyncio.Server | None = None
    try:
        listener = await listen(runner, config.api.host, config.api.port)
        host, port = listener.sockets[0].getsockname()[:2]
        logger.info("drafting with %s, serving http://%s:%d", drafter.model_name, host, port)
        await run_until(stop_at_signals(), agent.run(), "agent")
    finally:
        if listener is not None:
            listener.close()
        await runner.cleanup()
    logger.info("stopped")
