"""`goodspeed-verifier worker`: a target that runs the rounds of a verifier elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket

import click
import msgspec

from shared.config.secrets import read_key_file
from shared.config.sections import Loaded, LogFormat
from shared.daemon.command_line import log_format_option, set_up_logging, settings_options
from shared.daemon.http_server import listen
from shared.daemon.lifecycle import first_of, in_daemon_thread, run_loop, stop_at_signals
from shared.daemon.service_manager.loading import Loading
from shared.daemon.service_manager.notify import service_manager
from shared.daemon.service_manager.watchdog import report
from shared.errors import ConfigError
from verifier.commands.settings import SETTINGS
from verifier.config import VerifierConfig
from verifier.workers.settings import MOST_RANKS

logger = logging.getLogger(__name__)

_EXAMPLES = """\b
Examples:
  goodspeed-verifier worker --set workers.secret_file=secret --set workers.host=10.0.0.2
  goodspeed-verifier run --set workers.secret_file=secret \\
    --set 'workers.addresses=["10.0.0.2:8444"]'
  goodspeed-verifier worker --set workers.secret_file=secret --gpus 2
"""


@click.command(epilog=_EXAMPLES)
@log_format_option
@settings_options(SETTINGS)
@click.option(
    "--gpus",
    type=click.IntRange(1, MOST_RANKS),
    help="Split the model over so many GPUs; the same as --set workers.gpus_per_worker=M.",
)
def worker(loaded: Loaded[VerifierConfig], log_format: LogFormat | None, gpus: int | None) -> None:
    """Load the target model and serve its rounds at workers.port until SIGINT or SIGTERM.

    It keeps nothing about streams: verifiers come and go, and the newest one that has the secret
    is served. What travels is not encrypted: let it listen on a private network or a VPN only.
    """
    config = loaded.config
    if gpus is not None:
        own = msgspec.structs.replace(config.workers, gpus_per_worker=gpus)
        config = msgspec.structs.replace(config, workers=own)
    section = config.workers
    set_up_logging(config.log.level, log_format or config.log.format)
    if section.secret_file is None:
        raise ConfigError(
            ("workers.secret_file: not set; `openssl rand -hex 32 > FILE`, mode 600, makes one",)
        )
    secret = read_key_file(section.secret_file)
    # Only here: other commands do not wait for numpy.
    from verifier.target.target import DeviceLost
    from verifier.workers.ranks.following import end_at_once

    # Before the model is loaded.
    with contextlib.ExitStack() as ports:
        listening, *others = map(ports.enter_context, listen(section.host, section.port))
        if others:
            raise ConfigError((f"workers.host = {section.host}: must be one address",))
        try:
            run_loop(_serve(config, secret, listening))
        except DeviceLost as error:
            if section.gpus_per_worker == 1:
                raise
            logger.error("%s", error)
            end_at_once(2)
    logger.info("stopped")
    if section.gpus_per_worker > 1:
        end_at_once(0)


async def _serve(config: VerifierConfig, secret: str, listening: socket.socket) -> None:
    # Only here: other commands do not wait for torch.
    from verifier.worker_startup import load_worker
    from verifier.workers.worker_port import WorkerPort

    address = f"{config.workers.host}:{listening.getsockname()[1]}"
    manager = service_manager(os.environ)
    loading = Loading(manager, f"loading {config.target.model}")
    target, facts = await loading.run(lambda: load_worker(config, address, loading.tell))
    port = WorkerPort(listening, secret, target, facts)
    stop = stop_at_signals()
    logger.info("serving %s at %s", target.model_name, address)
    manager.ready(port.status)

    async def end_rounds() -> None:
        await stop.wait()
        manager.stopping()
        port.stop()
        await asyncio.Event().wait()  # for the round in hand

    await first_of(
        rounds=in_daemon_thread(port.serve),
        signal=end_rounds(),
        report=report(manager, lambda: port.status, lambda: port.computing_since),
    )
