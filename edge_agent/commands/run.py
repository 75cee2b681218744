"""`goodspeed-agent run`: the agent itself, until a signal."""

from __future__ import annotations

import logging
from collections.abc import Callable

import click

from edge_agent.commands.settings import SETTINGS
from edge_agent.config import AgentConfig
from edge_agent.tokens import read_api_token, read_device_token
from shared.config.sections import Loaded, LogFormat
from shared.daemon.command_line import log_format_option, set_up_logging, settings_options
from shared.daemon.tls.lean_import import import_aiohttp_leanly

logger = logging.getLogger(__name__)


@click.command()
@log_format_option
@settings_options(SETTINGS, reloads=True)
def run(
    loaded: Loaded[AgentConfig],
    reload: Callable[[], Loaded[AgentConfig]],
    log_format: LogFormat | None,
) -> None:
    """Load the draft model, connect to the verifier, serve until SIGINT or SIGTERM."""
    config = loaded.config
    set_up_logging(config.log.level, log_format or config.log.format)
    token = read_device_token(config)
    clients_token = read_api_token(config.api)
    model = config.draft.model
    first_step = f"loading {model}" if model else "waiting for the verifier"
    logger.info(first_step)  # before what takes long to import
    import_aiohttp_leanly()
    from edge_agent.commands.running_agent import run_agent

    run_agent(config, token, clients_token, first_step, lambda: reload().config)
