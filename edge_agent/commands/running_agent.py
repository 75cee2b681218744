"""An agent that runs, from its settings to its end at a signal.

Imported after the first line of the log: aiohttp takes most of the time until it is ready.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
from collections.abc import Callable, Sequence

import msgspec

from edge_agent.api.app import serve
from edge_agent.commands.found_verifier import with_address, with_found_verifier
from edge_agent.config import AgentConfig
from edge_agent.generation.agent import Agent
from edge_agent.startup import load_drafter, make_agent, make_app, verifier_tls
from edge_agent.tokens import read_device_token
from shared.config.secrets import device_name
from shared.config.sections import changed_keys
from shared.daemon.command_line import set_log_level
from shared.daemon.http_server import HttpServer, start_listening, take_port
from shared.daemon.lifecycle import first_of, reload_at_signal, run_loop, stop_at_signals
from shared.daemon.log_output.fields import log_fields
from shared.daemon.resources.heap import keep_heap_small, keep_one_heap
from shared.daemon.resources.main_memory import resident_memory
from shared.daemon.service_manager.loading import Loading
from shared.daemon.service_manager.notify import ServiceManager, service_manager
from shared.daemon.service_manager.watchdog import report
from shared.daemon.strangers import STRANGER_LIMITS
from shared.daemon.tls.expiry import watch_expiry
from shared.daemon.tls.server_tls import Shown, read_server_tls

logger = logging.getLogger(__name__)

TLS_KEYS = frozenset({"api.certificate_file", "api.key_file"})
# What a running agent takes over at SIGHUP; all else waits for the next start.
RELOADED = TLS_KEYS | {
    "log.level",
    "verifier.token",
    "verifier.token_file",
    "verifier.ca_file",
    "verifier.pin",
    "verifier.certificate_file",
    "verifier.key_file",
}


def run_agent(
    config: AgentConfig,
    token: str,
    clients_token: str | None,
    first_step: str,
    read_settings: Callable[[], AgentConfig],
) -> None:
    """Draft and serve until SIGINT or SIGTERM; `first_step` is what it does before it is ready."""
    if not config.draft.model:
        keep_one_heap()
    # Wrong files and a port that is taken are found before a model is loaded or a verifier awaited.
    shown = Shown(read_server_tls(config.api.certificate_file, config.api.key_file))
    with contextlib.ExitStack() as stack:
        sockets = take_port(config.api.host, config.api.port)
        for taken in sockets:
            stack.enter_context(taken)
        found = with_found_verifier(config)
        verifier_tls(found.verifier)
        stack.enter_context(log_fields(device=device_name(token)))
        parts = sockets, shown, service_manager(os.environ)
        again = functools.partial(_read_again, read_settings, config, found)
        run_loop(_serve(found, first_step, token, clients_token, *parts, again))


def _read_again(
    read_settings: Callable[[], AgentConfig], before: AgentConfig, found: AgentConfig
) -> AgentConfig:
    """What the settings say now; a verifier that was looked for stays the one that was found."""
    config = read_settings()
    is_same = config.verifier.url == before.verifier.url
    return with_address(config, found.verifier.url) if is_same else config


async def _serve(
    config: AgentConfig,
    first_step: str,
    token: str,
    clients_token: str | None,
    sockets: Sequence[socket.socket],
    shown: Shown,
    manager: ServiceManager,
    reload: Callable[[], AgentConfig],
) -> None:
    loading = Loading(manager, first_step)
    drafter = await loading.run(lambda: load_drafter(config, token))
    try:
        agent = make_agent(config, drafter, token)
        start_listening(sockets)
        # Without a token none is a stranger.
        limits = None if clients_token is None else STRANGER_LIMITS
        server = await serve(
            make_app(agent, config.api, clients_token), sockets, limits, shown.context
        )
        try:
            stop = stop_at_signals()
            # Before anything says that it drafts: a SIGHUP would end the program until then.
            reload_at_signal(
                manager,
                lambda: _reload(agent, server, config, shown, reload),
                lambda: agent.status,
            )
            host, port = sockets[0].getsockname()[:2]
            drafts_with = drafter.model_name
            scheme = "http" if shown.tls is None else "https"
            logger.info(
                "drafting with %s, chat page and API at %s://%s:%d",
                *(drafts_with, scheme, host, port),
            )
            logger.info("memory: %s", resident_memory() or "not told by the kernel")
            manager.ready(agent.status)
            await first_of(
                agent=agent.run(),
                signal=stop.wait(),
                report=report(manager, lambda: agent.status, lambda: agent.computing_since),
                certificate=watch_expiry(lambda: shown.certificate),
                heap=keep_heap_small(),
            )
        finally:
            manager.stopping()
            await server.stop()
    finally:
        drafter.close()
    logger.info("stopped")


def _reload(
    agent: Agent,
    server: HttpServer,
    before: AgentConfig,
    shown: Shown,
    reload: Callable[[], AgentConfig],
) -> list[str]:
    """Take over what may change; the keys that have changed besides.

    Raises:
        ConfigError: something is wrong, and nothing was taken over.
    """
    config = reload()
    address = msgspec.structs.replace(config.verifier, url=before.verifier.url)
    token, trust = read_device_token(config), verifier_tls(address)
    api_tls = read_server_tls(config.api.certificate_file, config.api.key_file)
    set_log_level(config.log.level)
    agent.replace_access(token, trust)
    taken_over = RELOADED
    if not shown.take_over(api_tls, lambda tls: server.replace_tls(tls.context)):
        taken_over -= TLS_KEYS
    return [key for key in changed_keys(before, config) if key not in taken_over]
