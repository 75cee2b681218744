"""`goodspeed-verifier token`: who may connect."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

import click

from shared.config.secrets import NUM_SECRET_BYTES
from shared.daemon.files import replace_file
from shared.errors import ConfigError
from verifier.config import ServerSection
from verifier.server.device_tokens import format_tokens, new_token, parse_tokens, read_tokens

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
@_tokens_file
def add(device: str, count: int | None, tokens_file: Path) -> None:
    """Make a token for DEVICE and print it; it is shown only this once."""
    digests = dict(read_tokens(tokens_file)) if tokens_file.exists() else {}
    devices = [device] if count is None else [f"{device}-{i}" for i in range(1, count + 1)]
    problems = [
        f"{tokens_file}: device {name} has a token already; revoke it first"
        for name in devices
        if name in digests
    ]
    if problems:
        raise ConfigError(tuple(problems))
    made = [new_token(name, secrets.token_bytes(NUM_SECRET_BYTES)) for name in devices]
    lines = "\n".join(line for _, line in made)
    _write(tokens_file, digests | dict(parse_tokens(lines, "new tokens")))
    for made_token, _ in made:
        click.echo(made_token)


@token.command(name="ls")
@_tokens_file
def list_devices(tokens_file: Path) -> None:
    """List the devices that have a token."""
    for device in sorted(read_tokens(tokens_file)):
        click.echo(device)


@token.command()
@click.argument("device")
@_tokens_file
def revoke(device: str, tokens_file: Path) -> None:
    """Forget the token of DEVICE.

    A running verifier reads the file again at SIGHUP (`systemctl reload goodspeed-verifier`), and
    ends the connection of a device whose token is gone.
    """
    digests = dict(read_tokens(tokens_file))
    if digests.pop(device, None) is None:
        raise ConfigError((f"{tokens_file}: no device {device}",))
    _write(tokens_file, digests)


def _write(path: Path, tokens: Mapping[str, str]) -> None:
    """A new file is its owner's alone, an old one keeps its mode: the verifier must read it."""
    replace_file(path, format_tokens(tokens).encode(), mode=0o600, keeps_owner=True)
