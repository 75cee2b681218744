"""`goodspeed-agent run`: the agent itself, until a signal."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import click

from edge_agent.commands.settings import SETTINGS
from edge_agent.config import AgentConfig
from edge_agent.startup import load_drafter, make_agent, make_app, read_api_token, read_device_token
from shared.config.sections import Loaded, changed_keys
from shared.daemon.command_line import set_log_level, set_up_logging, settings_options
from shared.daemon.heap import keep_heap_small
from shared.daemon.lifecycle import first_of, reload_at_signal, run_loop, stop_at_signals
from shared.daemon.main_memory import resident_memory
from shared.daemon.service_manager.notify import ServiceManager, service_manager
from shared.daemon.strangers import STRANGER_LIMITS

logger = logging.getLogger(__name__)


@click.command()
@settings_options(SETTINGS, reloads=True)
def run(loaded: Loaded[AgentConfig], reload: Callable[[], Loaded[AgentConfig]]) -> None:
    """Load the draft model, connect to the verifier, serve until SIGINT or SIGTERM."""
    config = loaded.config
    set_up_logging(config.log.level)
    token = read_device_token(config)
    clients_token = read_api_token(config.api)
    logger.info(_first_step(config))  # before what takes long to import
    run_loop(_serve(config, token, clients_token, service_manager(os.environ), reload))


async def _serve(
    config: AgentConfig,
    token: str,
    clients_token: str | None,
    manager: ServiceManager,
    reload: Callable[[], Loaded[AgentConfig]],
) -> None:
    from edge_agent.api.app import serve  # only here: other commands do not wait for aiohttp
    from shared.daemon.http_server import listen
    from shared.daemon.service_manager.loading import Loading
    from shared.daemon.service_manager.watchdog import report

    loading = Loading(manager, _first_step(config))
    drafter = await loading.run(lambda: load_drafter(config, token))
    try:
        agent = make_agent(config, drafter, token)
        sockets = listen(config.api.host, config.api.port)
        # Without a token none is a stranger.
        limits = None if clients_token is None else STRANGER_LIMITS
        server = await serve(make_app(agent, config.api, clients_token), sockets, limits)
        try:
            stop = stop_at_signals()
            host, port = sockets[0].getsockname()[:2]
            drafts_with = drafter.model_name
            logger.info(
                "drafting with %s, chat page and API at http://%s:%d", drafts_with, host, port
            )
            logger.info("memory: %s", resident_memory() or "not told by the kernel")
            reload_at_signal(manager, lambda: _reload(config, reload), lambda: agent.status)
            manager.ready(agent.status)
            await first_of(
                agent=agent.run(),
                signal=stop.wait(),
                report=report(manager, lambda: agent.status, lambda: agent.computing_since),
                heap=keep_heap_small(),
            )
        finally:
            manager.stopping()
            await server.stop()
    finally:
        drafter.close()
    logger.info("stopped")


def _first_step(config: AgentConfig) -> str:
    model = config.draft.model
    return f"loading {model}" if model else "waiting for the verifier"


def _reload(before: AgentConfig, reload: Callable[[], Loaded[AgentConfig]]) -> list[str]:
    """Take over the level of the log; the keys that have changed besides.

    Raises:
        ConfigError: something is wrong, and nothing was taken over.
    """
    config = reload().config
    set_log_level(config.log.level)
    return [key for key in changed_keys(before, config) if key != "log.level"]
