"""`goodspeed-verifier token`: who may connect."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import click

from shared.config.secrets import NUM_SECRET_BYTES
from shared.daemon.files import replace_file
from shared.errors import ConfigError
from verifier.config import ServerSection
from verifier.server.device_tokens import (
    Role,
    Token,
    TokenRoles,
    format_tokens,
    new_token,
    parse_tokens,
    read_token_roles,
)

_MOST_AT_ONCE = 10_000

_tokens_file = click.option(
    "--tokens-file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=ServerSection().tokens_file,
    show_default=True,
    help="One line a device: its name and the SHA-256 of its token.",
)


@click.group()
def token() -> None:
    """Make, list and revoke the tokens with which boards prove who they are."""


@token.command()
@click.argument("device")
@click.option(
    "--count",
    type=click.IntRange(1, _MOST_AT_ONCE),
    help="Make so many, for DEVICE-1, DEVICE-2 and so on; all of them or none.",
)
@click.option(
    "--role",
    type=click.Choice(get_args(Role)),
    default="board",
    show_default=True,
    help="board: connects and drafts; metrics: sees /metrics; dashboard: /dashboard, too.",
)
@_tokens_file
def add(device: str, count: int | None, role: Role, tokens_file: Path) -> None:
    """Make a token for DEVICE and print it; it is shown only this once."""
    known = dict(read_token_roles(tokens_file).all) if tokens_file.exists() else {}
    devices = [device] if count is None else [f"{device}-{i}" for i in range(1, count + 1)]
    problems = [
        f"{tokens_file}: device {name} has a token already; revoke it first"
        for name in devices
        if name in known
    ]
    if problems:
        raise ConfigError(tuple(problems))
    made = [new_token(name, secrets.token_bytes(NUM_SECRET_BYTES), role) for name in devices]
    lines = "\n".join(line for _, line in made)
    _write(tokens_file, known | dict(parse_tokens(lines, "new tokens").all))
    for made_token, _ in made:
        click.echo(made_token)


@token.command(name="ls")
@_tokens_file
def list_devices(tokens_file: Path) -> None:
    """List the devices that have a token, and tokens of other roles."""
    for name, known in sorted(read_token_roles(tokens_file).all.items()):
        click.echo(name if known.role == "board" else f"{name} ({known.role})")


@token.command()
@click.argument("device")
@_tokens_file
def revoke(device: str, tokens_file: Path) -> None:
    """Forget the token of DEVICE.

    A running verifier sees that within a second, and ends the connection of the device.
    """
    known = dict(read_token_roles(tokens_file).all)
    if known.pop(device, None) is None:
        raise ConfigError((f"{tokens_file}: no device {device}",))
    _write(tokens_file, known)


def _write(path: Path, tokens: Mapping[str, Token]) -> None:
    """A new file is its owner's alone, an old one keeps its mode: the verifier must read it."""
    replace_file(path, format_tokens(TokenRoles(tokens)).encode(), mode=0o600, keeps_owner=True)
