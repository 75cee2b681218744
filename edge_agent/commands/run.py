"""`goodspeed-agent run`: the agent itself, until a signal."""

from __future__ import annotations

import logging

import click

from edge_agent.config import AgentConfig
from edge_agent.draft_model.drafter import Drafter
from edge_agent.startup import load_drafter, make_agent, make_app, read_api_token, read_device_token
from shared.config.sections import Loaded
from shared.daemon.command_line import set_up_logging, settings_options
from shared.daemon.lifecycle import first_of, run_loop, stop_at_signals
from shared.daemon.strangers import STRANGER_LIMITS

logger = logging.getLogger(__name__)


@click.command()
@settings_options(AgentConfig)
def run(loaded: Loaded[AgentConfig]) -> None:
    """Load the draft model, connect to the verifier, serve until SIGINT or SIGTERM."""
    config = loaded.config
    set_up_logging(config.log.level)
    token = read_device_token(config)
    clients_token = read_api_token(config.api)
    drafter = load_drafter(config, token)
    try:
        run_loop(_serve(config, drafter, token, clients_token))
    finally:
        drafter.close()


async def _serve(
    config: AgentConfig, drafter: Drafter, token: str, clients_token: str | None
) -> None:
    from edge_agent.api.app import serve  # only here: other commands do not wait for aiohttp
    from shared.daemon.http_server import listen

    agent = make_agent(config, drafter, token)
    sockets = listen(config.api.host, config.api.port)
    limits = None if clients_token is None else STRANGER_LIMITS  # without one none is a stranger
    server = await serve(make_app(agent, clients_token), sockets, limits)
    try:
        host, port = sockets[0].getsockname()[:2]
        drafts_with = drafter.model_name
        logger.info("drafting with %s, chat page and API at http://%s:%d", drafts_with, host, port)
        await first_of(agent=agent.run(), signal=stop_at_signals().wait())
    finally:
        await server.stop()
    logger.info("stopped")
