"""`goodspeed-agent model …`: get, list, find and check draft models.

Results go to standard output, progress to standard error; a failure is one sentence.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from edge_agent.commands.settings import SETTINGS
from edge_agent.models.presets import DEFAULT_MODEL, PRESETS, locate, resolve
from edge_agent.models.progress import progress_on
from edge_agent.models.pull import pull
from shared.config.model_files import default_cache_dir
from shared.errors import ModelError


@click.group
def model() -> None:
    """Draft models: pull, list, find and verify them.

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
    """List the models that can be pulled, and which ones are here."""
    width = max(len(name) for name in PRESETS)
    for preset in PRESETS.values():
        try:
            state = _megabytes(locate(preset.name, _cache_dir()))
        except ModelError:
            state = f"not pulled ({preset.size_bytes / 1e6:.0f} MB)"
        click.echo(f"{preset.name:{width}}  {preset.licence}  {state}")


@model.command(name="path")
@click.argument("name", default=DEFAULT_MODEL)
def path_command(name: str) -> None:
    """Print where the model NAME is, without checking its bytes."""
    click.echo(str(locate(name, _cache_dir())))


@model.command(name="verify")
@click.argument("names", nargs=-1)
def verify_command(names: tuple[str, ...]) -> None:
    """Check the sha256 of the models NAMES, by default of all that are here."""
    chosen = names or tuple(name for name in PRESETS if _is_here(name))
    if not chosen:
        raise ModelError(f"there is no model in {_cache_dir()}: goodspeed-agent model pull")
    for name in chosen:
        click.echo(f"ok {resolve(name, _cache_dir())}")


def _cache_dir() -> Path:
    return default_cache_dir(os.environ)


def _is_here(name: str) -> bool:
    try:
        locate(name, _cache_dir())
    except ModelError:
        return False
    return True


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.0f} MB"
