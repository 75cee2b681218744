"""`goodspeed-agent init`: the settings and the token of this board, and what to do next."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import click

from edge_agent.config import AgentConfig
from edge_agent.models.presets import locate
from shared.config.boards import find_board, read_profiles
from shared.config.layers import ConfigFile, read_config_files
from shared.config.model_files import default_cache_dir, pull_command
from shared.config.secrets import TOKEN_PATTERN, read_secret_file
from shared.config.sections import load_config
from shared.config.words import shown
from shared.daemon.first_files import (
    FirstFile,
    check_replaceable,
    start_command,
    write_first_files,
)
from shared.daemon.tls.certificate import read_certificate
from shared.errors import ConfigError, ModelError

_EXAMPLES = """\b
Examples:
  goodspeed-agent init --verifier wss://gpu1.example.org --token -
  goodspeed-agent init --verifier wss://gpu1.lan:8443 --ca ca.crt --token -
  goodspeed-agent init --verifier ws://192.168.1.10:8443 --token - --dry-run
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--verifier",
    "given_url",
    help="Where it listens: ws:// or wss://. Without it one is looked for on this network (mDNS).",
)
@click.option(
    "--token",
    "token_source",
    metavar="-|FILE",
    help="Where this board's token is read from; - is standard input. May be left out where the "
    "board has one.",
)
@click.option(
    "--ca",
    "ca_source",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Of a verifier with its own authority: that one's certificate, ca.crt. It is copied.",
)
@click.option("--pin", help="In place of --ca: the verifier's key, sha256//…=.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/etc/goodspeed"),
    show_default=True,
    help="Where settings and token go.",
)
@click.option("--replace", is_flag=True, help="Write files anew that hold something else.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def init(
    given_url: str | None,
    token_source: str | None,
    ca_source: Path | None,
    pin: str | None,
    directory: Path,
    replace: bool,
    dry_run: bool,
) -> None:
    """Write the settings and the token of this board; a second call changes nothing."""
    url = given_url or _found_url()
    token_file = directory / "credentials" / "token"
    ca_file = None if ca_source is None else directory / "ca.crt"
    trust = {"ca_file": ca_file, "pin": pin}
    settings = FirstFile(directory / "agent.toml", _settings(url, token_file, trust), mode=0o644)
    profiles = read_profiles(os.environ)
    wanted = {f"verifier.{name}": value for name, value in {"url": url, **trust}.items()}
    load_config(AgentConfig, profiles, overrides=wanted)
    files = [settings]
    if ca_source is not None and ca_file is not None:
        read_certificate(ca_source)  # or a sentence
        authority = ca_source.read_text(encoding="utf-8")
        files.append(FirstFile(ca_file, authority, mode=0o644, is_shown=False))
    if token_source is not None:
        token = _read_token(token_source)
        files.append(FirstFile(token_file, f"{token}\n", mode=0o600, is_secret=True))
    elif not token_file.exists():
        raise ConfigError(("--token: must be given; `goodspeed-verifier token add` makes one",))
    check_replaceable(files, replaces=replace)
    click.echo(_board_sentence(profiles))
    for sentence in write_first_files(files, is_dry_run=dry_run):
        click.echo(sentence)
    for command in _next_commands(settings, profiles):
        click.echo(f"next: {command}")


def _found_url() -> str:
    """The verifier that this network has, if a person agrees to it: the token goes there."""
    from shared.daemon.discovery import check_discovery, find_verifiers

    check_discovery("without --verifier, init")
    click.echo("looking for a verifier on this network …", err=True)
    found = asyncio.run(find_verifiers())
    for one in found:
        click.echo(f"{one.host} says that a verifier is at {one.url}", err=True)
        if sys.stdin.isatty() and click.confirm("use it?", err=True):
            return one.url
    if not found:
        sentence = "none was found on this network (server.advertise = true makes one known)"
    else:
        sentence = f"a person has to agree to what was found; if it is yours: {found[0].url}"
    raise ConfigError((f"--verifier: must be given: {sentence}",))


def _settings(url: str, token_file: Path, trust: Mapping[str, object]) -> str:
    given = {name: value for name, value in trust.items() if value is not None}
    return (
        "# Written by `goodspeed-agent init`; `goodspeed-agent config init` explains every key.\n"
        "\n"
        "[verifier]\n"
        f"url = {shown(url)}\n"
        f"token_file = {shown(token_file)}\n"
        + "".join(f"{name} = {shown(value)}\n" for name, value in given.items())
    )


def _read_token(source: str) -> str:
    if source.startswith("gsd_"):
        sentence = "other users see the command line; give --token - and the token on its input"
        raise ConfigError((f"--token: {sentence}",))
    if source != "-":
        token = read_secret_file(Path(source))
    elif sys.stdin.isatty():
        token = click.prompt("token", hide_input=True, err=True).strip()
    else:
        token = sys.stdin.readline().strip()
    if not re.match(TOKEN_PATTERN, token):
        sentence = "must be a token as `goodspeed-verifier token add` prints it, gsd_…"
        raise ConfigError((f"--token {source}: {sentence}",))
    return token


def _board_sentence(profiles: Sequence[ConfigFile]) -> str:
    board = find_board()
    names = [Path(profile.name).stem for profile in profiles]
    profile = f"profile {' + '.join(names)}" if names else "no profile"
    return f"board: {board.device_tree or board.machine}, {board.num_cores} cores, {profile}"


def _next_commands(settings: FirstFile, profiles: tuple[ConfigFile, ...]) -> Iterator[str]:
    files = [ConfigFile("init", settings.content)]
    if settings.path.exists():
        files = list(read_config_files(settings.path))
    model = load_config(AgentConfig, [*profiles, *files], os.environ).config.draft.model
    try:
        if model:
            locate(model, default_cache_dir(os.environ))
    except ModelError:
        yield pull_command(model)
    yield start_command("goodspeed-agent", settings.path)
