"""`goodspeed-verifier run`: the server itself, until a signal."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from shared.config.secrets import read_key_file
from shared.config.sections import Loaded, LogFormat, changed_keys
from shared.daemon.command_line import (
    log_format_option,
    set_log_level,
    set_up_logging,
    settings_options,
)
from shared.daemon.discovery import advertised, check_discovery
from shared.daemon.lifecycle import first_of, reload_at_signal, run_loop, stop_at_signals
from shared.daemon.resources.heap import keep_heap_small
from shared.daemon.resources.main_memory import resident_memory
from shared.daemon.service_manager.notify import ServiceManager, service_manager
from shared.daemon.tls.server_tls import ServerTls, Shown, read_server_tls
from verifier.commands.settings import SETTINGS
from verifier.commands.state_watches import watch_devices, watch_drafts, watch_workers
from verifier.config import LimitsSection, VerifierConfig
from verifier.engine.device_terms import FILE_NAME, NO_TERMS, AllTerms, read_terms
from verifier.rounds.settings import RoundsSection
from verifier.server.device_tokens import TokenRoles, read_token_roles
from verifier.wanted_workers import WorkersWanted, with_workers
from verifier.workers.settings import MOST_RANKS, MOST_WORKERS

if TYPE_CHECKING:
    from verifier.engine.service import VerifierService
    from verifier.server.server import VerifierServer

logger = logging.getLogger(__name__)


TLS_KEYS = frozenset({"server.certificate_file", "server.key_file", "server.client_ca_file"})
# What a running verifier takes over at SIGHUP; all else waits for the next start.
RELOADED = frozenset(
    {
        "log.level",
        "server.tokens_file",
        "server.metrics_token_file",
        "server.metrics_on_loopback",
        "rounds.policy",
        "rounds.awc_weights",
        "rounds.awc_waiting_weights",
        "rounds.slowdown_limit",
        "rounds.guard",
        "rounds.measure_payoff",
        *(f"limits.{name}" for name in LimitsSection.__struct_fields__),
        *TLS_KEYS,
    }
)


class Access(msgspec.Struct, frozen=True):
    """Who may do what, read from files."""

    tokens: TokenRoles
    metrics_token: str | None
    tls: ServerTls | None
    terms: AllTerms  # of devices


class AccessInForce:
    """Who may do what at a running verifier's port; at SIGHUP all of it is read again."""

    def __init__(
        self, server: VerifierServer, shown: Shown, config: VerifierConfig, access: Access
    ) -> None:
        self._server = server
        self._shown = shown
        self._started_with = self._config = config
        self._metrics_token = access.metrics_token

    @property
    def tokens_file(self) -> Path:
        """Where tokens are read from now."""
        return self._config.server.tokens_file

    def replace_tokens(self, tokens: TokenRoles) -> None:
        """Other tokens hold from now on; connections by tokens that are gone end."""
        from verifier.startup import operator_access

        access = operator_access(self._config, self._metrics_token, tokens)
        self._server.replace_access(tokens.of("board"), access)

    def read_tokens(self, tokens_file: Path) -> None:
        """Take over what the file holds now.

        Raises:
            ConfigError: it is wrong.
        """
        self.replace_tokens(read_token_roles(tokens_file))

    def reload(self, config: VerifierConfig) -> list[str]:
        """Take over what may change; the keys that have changed besides.

        Raises:
            ConfigError: something is wrong, and nothing was taken over.
        """
        access = _read_access(config)
        set_log_level(config.log.level)
        self._config, self._metrics_token = config, access.metrics_token
        self.replace_tokens(access.tokens)
        taken_over = RELOADED
        if not self._shown.take_over(access.tls, self._server.replace_tls):
            taken_over -= TLS_KEYS
        return [key for key in changed_keys(self._started_with, config) if key not in taken_over]


@click.command()
@log_format_option
@settings_options(SETTINGS, reloads=True)
@click.option(
    "--workers",
    "num_workers",
    type=click.IntRange(1, MOST_WORKERS),
    help="Run the target in so many processes, each with a GPU; the same as "
    "--set workers.local=N (docs/workers.md).",
)
@click.option(
    "--gpus-per-worker",
    "gpus_per_worker",
    type=click.IntRange(1, MOST_RANKS),
    help="Split the model of each worker over so many GPUs; of 1 worker where none are set. The "
    "same as --set workers.gpus_per_worker=M.",
)
@click.option(
    "--ray",
    metavar="local|HOST:PORT",
    help="Let Ray place the workers, of which there is 1 where no number is set: a Ray of this "
    "host's own, or the one whose head is there; the same as --set workers.ray=… and "
    "workers.on_ray=N.",
)
@click.option(
    "--record",
    "recording_file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write down how long rounds take and what is accepted of whose drafts, and no text, for "
    "`goodspeed-verifier calibrate`.",
)
def run(
    loaded: Loaded[VerifierConfig],
    reload: Callable[[], Loaded[VerifierConfig]],
    log_format: LogFormat | None,
    num_workers: int | None,
    gpus_per_worker: int | None,
    ray: str | None,
    recording_file: Path | None,
) -> None:
    """Load the target model and serve boards until SIGINT or SIGTERM."""
    # Only here: other commands do not wait for aiohttp.
    from shared.daemon.http_server import inherited_sockets, listen
    from verifier.configured_rounds import configured_policy

    wanted = WorkersWanted(num_workers, gpus_per_worker, ray)
    config = with_workers(lambda: loaded, wanted).config
    set_up_logging(config.log.level, log_format or config.log.format)
    if recording_file is not None and config.workers.has_any:
        raise click.UsageError("--record is of a verifier with a target of its own, not of workers")
    access = _read_access(config)
    configured_policy(config.rounds)  # a wrong file of weights is told before the model is loaded
    if recording_file is not None:
        from verifier.recording.recorder import check_can_record

        check_can_record(recording_file)
    if config.server.advertise:
        check_discovery("server.advertise")
    with contextlib.ExitStack() as stack:
        sockets = inherited_sockets(os.environ) or listen(config.server.host, config.server.port)
        for listening in sockets:
            stack.enter_context(listening)
        manager = service_manager(os.environ)
        parts = access, sockets, manager
        again = functools.partial(with_workers, reload, wanted)
        run_loop(_serve(config, *parts, again, recording_file))


def _read_access(config: VerifierConfig) -> Access:
    server, directory = config.server, config.state.directory
    metrics_file = server.metrics_token_file
    return Access(
        tokens=read_token_roles(server.tokens_file),
        metrics_token=None if metrics_file is None else read_key_file(metrics_file),
        tls=read_server_tls(server.certificate_file, server.key_file, server.client_ca_file),
        terms=NO_TERMS if directory is None else read_terms(directory / FILE_NAME),
    )


async def _serve(
    config: VerifierConfig,
    access: Access,
    sockets: Sequence[socket.socket],
    manager: ServiceManager,
    reload: Callable[[], Loaded[VerifierConfig]],
    recording_file: Path | None,
) -> None:
    from shared.daemon.file_watch import watch_file
    from shared.daemon.service_manager.watchdog import report
    from shared.daemon.tls.expiry import watch_expiry
    from verifier.engine.terms_in_force import TermsInForce
    from verifier.server.status_line import StatusLine
    from verifier.startup import make_online, make_server, save_curve

    shown = Shown(access.tls)
    service = await _load(config, access, shown, sockets, manager)
    stop = stop_at_signals()
    server = make_server(config, service, access.tokens, access.metrics_token, shown.tls)
    in_force, online = TermsInForce(service), make_online(config, service)

    def take_over(terms: AllTerms) -> None:
        in_force.take_over(terms)
        if online is not None:
            online.wrong.keep_private(terms.private)
        if server.assigned_drafts is not None:
            server.assigned_drafts.take_over(terms)

    take_over(access.terms)
    access_in_force = AccessInForce(server, shown, config, access)
    status = StatusLine(service, asyncio.get_running_loop().time())
    end_recording = _record(recording_file, config, service)
    try:
        await server.start(sockets)
        # Before anything says that it serves: a SIGHUP would end the program until then.
        reload_at_signal(
            manager,
            lambda: _reload(access_in_force, service, server, reload().config),
            status.read,
        )
        scheme = "ws" if access.tls is None else "wss"
        address = f"{scheme}://{config.server.host}:{sockets[0].getsockname()[1]}"
        num_devices = len(access.tokens.of("board"))
        devices = "1 device" if num_devices == 1 else f"{num_devices} devices"
        logger.info("serving %s at %s for %s", service.target.model_name, address, devices)
        logger.info("memory: %s", resident_memory() or "not told by the kernel")
        manager.ready(f"serving {service.target.model_name} for {devices}")
        port = sockets[0].getsockname()[1]
        async with _advertised(config, port):
            await first_of(
                rounds=server.wait(),
                signal=stop.wait(),
                report=report(manager, status.read, lambda: service.round_started_at),
                certificate=watch_expiry(lambda: shown.certificate),
                tokens=watch_file(lambda: access_in_force.tokens_file, access_in_force.read_tokens),
                devices=watch_devices(config, take_over),
                drafts=watch_drafts(config, server.assigned_drafts),
                workers=watch_workers(config, service),
                heap=keep_heap_small(),
                online=asyncio.Event().wait() if online is None else online.drafts.run(),
            )
    finally:
        manager.stopping()
        await server.stop()
        end_recording()
        save_curve(config, service)
    logger.info("stopped")


def _record(
    path: Path | None, config: VerifierConfig, service: VerifierService
) -> Callable[[], None]:
    """Begin a recording, if one is wanted; what ends it."""
    from verifier.recording.recorder import start_recording

    if path is None:
        return lambda: None
    usual = msgspec.structs.asdict(RoundsSection())
    rounds = {k: v for k, v in msgspec.structs.asdict(config.rounds).items() if v != usual[k]}
    recorder = start_recording(path, service.target.model_name, rounds)
    service.metrics.watchers.append(recorder)
    logger.info("recording rounds, without any text, to %s", path)
    return recorder.close


def _advertised(config: VerifierConfig, port: int) -> AbstractAsyncContextManager[None]:
    """The network knows of the verifier meanwhile, where that is wanted."""
    server = config.server
    if not server.advertise:
        return contextlib.nullcontext()
    return advertised(server.host, port, speaks_tls=server.certificate_file is not None)


async def _load(
    config: VerifierConfig,
    access: Access,
    shown: Shown,
    sockets: Sequence[socket.socket],
    manager: ServiceManager,
) -> VerifierService:
    """The service; meanwhile the port says that it loads."""
    from shared.daemon.service_manager.loading import Loading
    from verifier.startup import load_service, make_loading_port
    from verifier.worker_startup import load_service_of_workers

    loading = Loading(manager)
    port = make_loading_port(config, access.tokens.of("board"), lambda: loading.percent, shown.tls)
    try:
        await port.start(sockets)
        load = load_service_of_workers if config.workers.has_any else load_service
        return await loading.run(lambda: load(config, loading.tell, loading.advance))
    finally:
        await port.stop()


def _reload(
    access_in_force: AccessInForce,
    service: VerifierService,
    server: VerifierServer,
    config: VerifierConfig,
) -> list[str]:
    """Take over what may change; the keys that have changed besides.

    Raises:
        ConfigError: something is wrong, and nothing was taken over.
    """
    from verifier.configured_rounds import configured_policy
    from verifier.startup import replace_limits, replace_policies

    configured_policy(config.rounds)  # a wrong file is told before anything is taken over
    changed = access_in_force.reload(config)
    replace_policies(service, config.rounds)
    replace_limits(service, server, config.limits)
    return changed
