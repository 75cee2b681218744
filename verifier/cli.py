"""`goodspeed-verifier`: run the server, measure the target, make tokens for boards, settings."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from shared.command_line import (
    FriendlyGroup,
    config_commands,
    set_up_logging,
    settings_options,
)
from shared.config import Loaded
from verifier import __version__
from verifier.config import VerifierConfig
from verifier.listening import listen
from verifier.profile_command import profile
from verifier.token_commands import token
from verifier.tokens import read_tokens

if TYPE_CHECKING:
    from verifier.server import VerifierServer

logger = logging.getLogger(__name__)


_FIRST_STEPS = """\b
First steps:
  goodspeed-verifier token add kitchen --tokens-file tokens   # prints the board's token
  goodspeed-verifier run --set server.tokens_file=tokens
  goodspeed-verifier profile                        # how fast the target is here
  goodspeed-verifier config init > verifier.toml    # every setting explained
"""


@click.group(
    cls=FriendlyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_FIRST_STEPS,
)
@click.version_option(__version__)
def main() -> None:
    """Check the draft tokens of many boards with one target model."""


@main.command()
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
    from verifier.server import VerifierServer
    from verifier.startup import device_limits, load_service, save_curve

    stop = asyncio.Event()
    service = load_service(config, lambda sentence: logger.info("%s", sentence))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
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
        await _until_stopped(server, stop)
    finally:
        await server.stop()
        save_curve(config, service)
    logger.info("stopped")


async def _until_stopped(server: VerifierServer, stop: asyncio.Event) -> None:
    """Return when a signal came; raise what ended the rounds."""
    failing = asyncio.create_task(server.wait(), name="rounds-watch")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    done, pending = await asyncio.wait((failing, stopping), return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    if failing in done:
        failing.result()


main.add_command(profile)
main.add_command(token)
main.add_command(config_commands(VerifierConfig))
