"""`goodspeed-verifier run`: the server itself, until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Mapping, Sequence

import click

from shared.config.secrets import read_key_file
from shared.config.sections import Loaded
from shared.daemon.command_line import set_up_logging, settings_options
from shared.daemon.lifecycle import first_of, run_loop, stop_at_signals
from shared.daemon.notify import ServiceManager, service_manager
from verifier.commands.settings import SETTINGS
from verifier.config import VerifierConfig
from verifier.server.device_tokens import read_tokens

logger = logging.getLogger(__name__)


@click.command()
@settings_options(SETTINGS)
def run(loaded: Loaded[VerifierConfig]) -> None:
    """Load the target model and serve boards until SIGINT or SIGTERM."""
    # Only here: other commands do not wait for aiohttp.
    from shared.daemon.http_server import inherited_sockets, listen

    config = loaded.config
    set_up_logging(config.log.level)
    tokens = read_tokens(config.server.tokens_file)
    metrics_file = config.server.metrics_token_file
    metrics_token = None if metrics_file is None else read_key_file(metrics_file)
    with contextlib.ExitStack() as stack:
        sockets = inherited_sockets(os.environ) or listen(config.server.host, config.server.port)
        for listening in sockets:
            stack.enter_context(listening)
        run_loop(_serve(config, tokens, metrics_token, sockets, service_manager(os.environ)))


async def _serve(
    config: VerifierConfig,
    tokens: Mapping[str, str],
    metrics_token: str | None,
    sockets: Sequence[socket.socket],
    manager: ServiceManager,
) -> None:
    from shared.daemon.loading import Loading
    from shared.daemon.watchdog import report
    from verifier.server.status_line import StatusLine
    from verifier.startup import load_service, make_server, save_curve

    loading = Loading(manager)
    service = await loading.run(lambda: load_service(config, loading.tell))
    stop = stop_at_signals()
    server = make_server(config, service, tokens, metrics_token)
    status = StatusLine(service, asyncio.get_running_loop().time())
    try:
        await server.start(sockets)
        address = f"ws://{config.server.host}:{sockets[0].getsockname()[1]}"
        devices = "1 device" if len(tokens) == 1 else f"{len(tokens)} devices"
        logger.info("serving %s at %s for %s", service.target.model_name, address, devices)
        manager.ready(f"serving {service.target.model_name} for {devices}")
        await first_of(
            rounds=server.wait(),
            signal=stop.wait(),
            report=report(manager, status.read, lambda: service.round_started_at),
        )
    finally:
        manager.stopping()
        await server.stop()
        save_curve(config, service)
    logger.info("stopped")
