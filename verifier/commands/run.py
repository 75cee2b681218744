"""`goodspeed-verifier run`: the server itself, until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import click
import msgspec

from shared.config.secrets import read_key_file
from shared.config.sections import Loaded, changed_keys
from shared.daemon.command_line import set_log_level, set_up_logging, settings_options
from shared.daemon.heap import keep_heap_small
from shared.daemon.lifecycle import first_of, reload_at_signal, run_loop, stop_at_signals
from shared.daemon.main_memory import resident_memory
from shared.daemon.service_manager.notify import ServiceManager, service_manager
from verifier.commands.settings import SETTINGS
from verifier.config import VerifierConfig
from verifier.server.device_tokens import read_tokens

if TYPE_CHECKING:
    from verifier.engine.service import VerifierService
    from verifier.server.server import VerifierServer

logger = logging.getLogger(__name__)


# What a running verifier takes over at SIGHUP; all else waits for the next start.
RELOADED = frozenset(
    {
        "log.level",
        "server.tokens_file",
        "server.metrics_token_file",
        "server.metrics_on_loopback",
    }
)


class Access(msgspec.Struct, frozen=True):
    """Who may do what, read from files."""

    tokens: Mapping[str, str]  # device to hash
    metrics_token: str | None


@click.command()
@settings_options(SETTINGS, reloads=True)
def run(loaded: Loaded[VerifierConfig], reload: Callable[[], Loaded[VerifierConfig]]) -> None:
    """Load the target model and serve boards until SIGINT or SIGTERM."""
    # Only here: other commands do not wait for aiohttp.
    from shared.daemon.http_server import inherited_sockets, listen

    config = loaded.config
    set_up_logging(config.log.level)
    access = _read_access(config)
    with contextlib.ExitStack() as stack:
        sockets = inherited_sockets(os.environ) or listen(config.server.host, config.server.port)
        for listening in sockets:
            stack.enter_context(listening)
        run_loop(_serve(config, access, sockets, service_manager(os.environ), reload))


def _read_access(config: VerifierConfig) -> Access:
    metrics_file = config.server.metrics_token_file
    return Access(
        tokens=read_tokens(config.server.tokens_file),
        metrics_token=None if metrics_file is None else read_key_file(metrics_file),
    )


async def _serve(
    config: VerifierConfig,
    access: Access,
    sockets: Sequence[socket.socket],
    manager: ServiceManager,
    reload: Callable[[], Loaded[VerifierConfig]],
) -> None:
    from shared.daemon.service_manager.watchdog import report
    from verifier.server.status_line import StatusLine
    from verifier.startup import make_server, save_curve

    service = await _load(config, access, sockets, manager)
    stop = stop_at_signals()
    server = make_server(config, service, access.tokens, access.metrics_token)
    status = StatusLine(service, asyncio.get_running_loop().time())
    try:
        await server.start(sockets)
        address = f"ws://{config.server.host}:{sockets[0].getsockname()[1]}"
        num_devices = len(access.tokens)
        devices = "1 device" if num_devices == 1 else f"{num_devices} devices"
        logger.info("serving %s at %s for %s", service.target.model_name, address, devices)
        logger.info("memory: %s", resident_memory() or "not told by the kernel")
        reload_at_signal(manager, lambda: _reload(server, config, reload), status.read)
        manager.ready(f"serving {service.target.model_name} for {devices}")
        await first_of(
            rounds=server.wait(),
            signal=stop.wait(),
            report=report(manager, status.read, lambda: service.round_started_at),
            heap=keep_heap_small(),
        )
    finally:
        manager.stopping()
        await server.stop()
        save_curve(config, service)
    logger.info("stopped")


async def _load(
    config: VerifierConfig,
    access: Access,
    sockets: Sequence[socket.socket],
    manager: ServiceManager,
) -> VerifierService:
    """The service; meanwhile the port says that it loads."""
    from shared.daemon.service_manager.loading import Loading
    from verifier.startup import load_service, make_loading_port

    loading = Loading(manager)
    port = make_loading_port(config, access.tokens, lambda: loading.percent)
    try:
        await port.start(sockets)
        return await loading.run(lambda: load_service(config, loading.tell, loading.advance))
    finally:
        await port.stop()


def _reload(
    server: VerifierServer, before: VerifierConfig, reload: Callable[[], Loaded[VerifierConfig]]
) -> list[str]:
    """Take over what may change; the keys that have changed besides.

    Raises:
        ConfigError: something is wrong, and nothing was taken over.
    """
    from verifier.startup import operator_access

    config = reload().config
    access = _read_access(config)
    set_log_level(config.log.level)
    server.replace_access(access.tokens, operator_access(config, access.metrics_token))
    return [key for key in changed_keys(before, config) if key not in RELOADED]
