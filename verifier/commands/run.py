"""`goodspeed-verifier run`: the server itself, until a signal."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence

import click

from shared.config.sections import Loaded
from shared.daemon.command_line import set_up_logging, settings_options
from shared.daemon.http_server import listen
from shared.daemon.lifecycle import run_until, stop_at_signals
from verifier.config import VerifierConfig
from verifier.server.device_tokens import read_tokens

logger = logging.getLogger(__name__)


@click.command()
@settings_options(VerifierConfig)
def run(loaded: Loaded[VerifierConfig]) -> None:
    """Load the target model and serve boards until SIGINT or SIGTERM."""
    set_up_logging(loaded.config.log.level)
    tokens = dict(read_tokens(loaded.config.server.tokens_file))
    sockets = listen(loaded.config.server.host, loaded.config.server.port)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(loaded.config, tokens, sockets))


async def _serve(
    config: VerifierConfig, tokens: dict[str, str], sockets: Sequence[socket.socket]
) -> None:
    from verifier.server.server import VerifierServer
    from verifier.startup import device_limits, load_service, save_curve

    service = load_service(config, lambda sentence: logger.info("%s", sentence))
    stop = stop_at_signals()
    server = VerifierServer(
        service,
        tokens,
        heartbeat_seconds=config.server.heartbeat_seconds,
        max_connections=config.server.max_connections,
        device_limits=device_limits(config.limits),
    )
    try:
        await server.start(sockets)
        address = f"ws://{config.server.host}:{sockets[0].getsockname()[1]}"
        model = service.target.model_name
        devices = "1 device" if len(tokens) == 1 else f"{len(tokens)} devices"
        logger.info("serving %s at %s for %s", model, address, devices)
        await run_until(stop, server.wait(), "rounds-watch")
    finally:
        await server.stop()
        save_curve(config, service)
    logger.info("stopped")
