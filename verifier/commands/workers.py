"""`goodspeed-verifier workers`: who runs the rounds and how it goes; add, drain, restart, release.

What is asked goes into a file in the directory of state, which the running verifier takes over
within a second.
"""

from __future__ import annotations

import re
from pathlib import Path

import click
import msgspec

from shared.config.sections import Loaded
from shared.daemon.command_line import settings_options
from shared.daemon.files import replace_file
from shared.errors import ConfigError
from verifier.commands.live_state import LiveWorker, read_live_workers
from verifier.commands.printed_table import print_table
from verifier.commands.settings import SETTINGS, state_directory
from verifier.config import VerifierConfig
from verifier.engine.worker_orders import (
    FILE_NAME,
    Orders,
    WorkerOrders,
    pack_orders,
    read_orders,
)
from verifier.workers.settings import ADDRESS_PATTERN, MOST_WORKERS, ON_RAY

_EXAMPLES = """\b
Examples:
  goodspeed-verifier workers list
  goodspeed-verifier workers add 10.0.0.4:8444
  goodspeed-verifier workers drain 1       # its streams go on at others; then it may be stopped
  goodspeed-verifier workers restart 0     # drained first, if another worker can take its streams
"""
_COLUMNS = ("worker", "state", "streams", "rounds", "ms/round", "lost", "moved in/out", "where")


@click.group(epilog=_EXAMPLES)
def workers() -> None:
    """List, add, drain and restart the workers of a running verifier; end those left at Ray."""


@workers.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One object for programs.")
@settings_options(SETTINGS)
def list_workers(loaded: Loaded[VerifierConfig], as_json: bool) -> None:
    """List all workers, with what the verifier measures of them."""
    found = read_live_workers(loaded.config)
    if as_json:
        report = {"workers": found}
        click.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
        return
    if not found:
        click.echo("the verifier has no workers: its target runs in its own process")
        return
    print_table(_COLUMNS, [_cells(worker) for worker in found])


@workers.command()
@click.argument("where", metavar="[HOST:PORT]", default="")
@settings_options(SETTINGS)
def add(loaded: Loaded[VerifierConfig], where: str) -> None:
    """Let the worker at HOST:PORT join, or another one that Ray places, until the verifier ends.

    One that is to be there at its next start, too, stands in workers.addresses or is counted in
    workers.on_ray.
    """
    section = loaded.config.workers
    if where and not re.match(ADDRESS_PATTERN, where):
        raise ConfigError((f"{where}: must be host:port of a worker",))
    if where and section.secret_file is None:
        raise ConfigError(("workers.secret_file: must be set, as the verifier has it",))
    path = _orders_path(loaded.config)
    orders = read_orders(path)
    _write(path, msgspec.structs.replace(orders, added=(*orders.added, where or ON_RAY)))


@workers.command()
@click.argument("number", type=click.IntRange(0, MOST_WORKERS - 1))
@settings_options(SETTINGS)
def drain(loaded: Loaded[VerifierConfig], number: int) -> None:
    """Let the streams of worker NUMBER go on at others; it gets none until it is started anew."""
    _ask(loaded.config, number, num_drains=1)


@workers.command()
@click.argument("number", type=click.IntRange(0, MOST_WORKERS - 1))
@settings_options(SETTINGS)
def restart(loaded: Loaded[VerifierConfig], number: int) -> None:
    """Drain worker NUMBER and end its process; the verifier, or its own unit, starts it again."""
    _ask(loaded.config, number, num_restarts=1)


@workers.command()
@settings_options(SETTINGS)
def release(loaded: Loaded[VerifierConfig]) -> None:
    """End all workers of workers.ray_namespace: those that Ray keeps for the next verifier."""
    # Only here: other commands do not wait for numpy.
    from verifier.worker_sources import release_workers

    release_workers(loaded.config)


def _ask(
    config: VerifierConfig, number: int, *, num_drains: int = 0, num_restarts: int = 0
) -> None:
    path = _orders_path(config)
    orders = read_orders(path)
    known = orders.of(number)
    asked = WorkerOrders(known.num_drains + num_drains, known.num_restarts + num_restarts)
    _write(path, msgspec.structs.replace(orders, workers={**orders.workers, number: asked}))


def _orders_path(config: VerifierConfig) -> Path:
    return state_directory(config, "what is asked of workers goes there") / FILE_NAME


def _write(path: Path, orders: Orders) -> None:
    replace_file(path, pack_orders(orders), mode=0o644, keeps_owner=True)


def _cells(worker: LiveWorker) -> list[str]:
    mean = worker.round_seconds / worker.num_rounds if worker.num_rounds else 0.0
    return [
        str(worker.number),
        f"{worker.state}: {worker.because}" if worker.because else worker.state,
        str(worker.num_streams),
        str(worker.num_rounds),
        f"{mean * 1e3:.1f}",
        str(worker.num_lost),
        f"{worker.num_moved_in}/{worker.num_moved_out}",
        f"{worker.name}, {worker.hardware}",
    ]
