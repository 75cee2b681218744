"""`goodspeed-agent model …`: get, list, find, check and delete draft models.

Results go to standard output, progress to standard error; a failure is one sentence.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from edge_agent.commands.settings import SETTINGS
from edge_agent.models.cache import cached_models, remove, work_dir
from edge_agent.models.presets import (
    DEFAULT_MODEL,
    PRESETS,
    Preset,
    expected_sha256,
    locate,
    resolve,
)
from edge_agent.models.progress import progress_on
from edge_agent.models.pull import pull
from shared.config.model_files import cached_path, default_cache_dir
from shared.errors import ModelError

UNKNOWN_LICENCE = "licence not told"


@click.group
def model() -> None:
    """Draft models: pull, list, find, verify and delete them.

    They live in $GOODSPEED_MODEL_DIR, $XDG_CACHE_HOME/goodspeed/models or
    ~/.cache/goodspeed/models.
    """


@model.command(name="pull")
@click.argument("name", default="")
def pull_command(name: str) -> None:
    """Download or make the model NAME, unless it is there and intact.

    By default that which the settings of this board name (draft.model).
    """
    name = name or SETTINGS.load(None, ()).config.draft.model or DEFAULT_MODEL
    with progress_on(sys.stderr) as progress:
        path = pull(name, _cache_dir(), progress)
    click.echo(f"{path} {_megabytes(path)}")


@model.command(name="ls")
def ls_command() -> None:
    """List all models that are here, and those that can be pulled.

    Name, licence, size, and of what is here the quantisation.
    """
    here = {path.stem: path for path in cached_models(_cache_dir())}
    names = sorted(PRESETS.keys() | here.keys())
    width = max(len(name) for name in names)
    for name in names:
        licence, state = _here(here[name]) if name in here else _not_here(PRESETS[name])
        click.echo(f"{name:{width}}  {licence}  {state}")


@model.command(name="rm")
@click.argument("names", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
def rm_command(names: tuple[str, ...], yes: bool) -> None:
    """Delete the models NAMES from this cache."""
    paths = [_cached(name) for name in names]
    for path in paths:
        if yes or click.confirm(f"delete {path} ({_megabytes(path)})?", err=True):
            with work_dir(_cache_dir(), _tell_of_wait):  # no pull puts it there meanwhile
                remove(path)
            click.echo(f"deleted {path}")


@model.command(name="path")
@click.argument("name", default=DEFAULT_MODEL)
def path_command(name: str) -> None:
    """Print where the model NAME is, without checking its bytes."""
    click.echo(str(locate(name, _cache_dir())))


@model.command(name="verify")
@click.argument("names", nargs=-1)
def verify_command(names: tuple[str, ...]) -> None:
    """Check the models NAMES, by default all that are here.

    By their sha256 where it is known, else whether the file has all that it names.
    """
    chosen = names or tuple(path.stem for path in cached_models(_cache_dir()))
    if not chosen:
        raise ModelError(f"there is no model in {_cache_dir()}: goodspeed-agent model pull")
    faults = []
    for name in chosen:
        try:
            click.echo(_verified(name))
        except ModelError as error:
            faults.append(str(error))
    if faults:
        raise ModelError("; ".join(faults))


def _cache_dir() -> Path:
    return default_cache_dir(os.environ)


def _verified(name: str) -> str:
    """What is said of a model that is right.

    Raises:
        ModelError: it is not.
    """
    path = resolve(name, _cache_dir())
    if expected_sha256(PRESETS.get(name), path) is not None:
        return f"ok {path}"
    # Only here: llama.cpp takes a second to load.
    from edge_agent.draft_model.llama_outline import read_outline

    read_outline(path)
    return f"ok {path} is whole; no sha256 of it is known"


def _here(path: Path) -> tuple[str, str]:
    """Licence and state of a model in the cache."""
    from edge_agent.draft_model.llama_outline import read_outline

    preset = PRESETS.get(path.stem)
    licence = None if preset is None else preset.licence
    try:
        outline = read_outline(path)
    except ModelError:
        return licence or UNKNOWN_LICENCE, f"{_megabytes(path)}, not whole: model verify"
    licence = licence or outline.licence or UNKNOWN_LICENCE
    return licence, f"{_megabytes(path)}  {outline.quantisation}"


def _not_here(preset: Preset) -> tuple[str, str]:
    return preset.licence, f"not pulled ({preset.size_bytes / 1e6:.0f} MB)"


def _cached(name: str) -> Path:
    path = cached_path(_cache_dir(), name)
    if "/" in name or not path.is_file():
        raise ModelError(f"there is no model {name} in {_cache_dir()}: goodspeed-agent model ls")
    return path


def _tell_of_wait() -> None:
    click.echo("waiting for a pull to end", err=True)


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.0f} MB"
