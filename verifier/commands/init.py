"""`goodspeed-verifier init`: the settings and the file of tokens, and what to do next."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import click

from shared.config.model_files import cached_path, default_cache_dir, pull_command
from shared.config.sections import load_config
from shared.config.words import shown
from shared.daemon.first_files import (
    FirstFile,
    check_replaceable,
    start_command,
    write_first_files,
)
from shared.daemon.tls.certificate import read_certificate
from shared.errors import ConfigError
from verifier.commands.private_authority import TlsFiles, check_names, own_names, private_tls_files
from verifier.config import TargetSection, VerifierConfig
from verifier.server.device_tokens import read_tokens

_EXAMPLES = """\b
Examples:
  goodspeed-verifier init
  goodspeed-verifier init --model /srv/models/Qwen3-8B --host 192.168.1.10 --dry-run
  goodspeed-verifier init --private-ca --name gpu1.example.org
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--model",
    default=TargetSection().model,
    show_default=True,
    help="The target: a known name, a GGUF file or a safetensors directory.",
)
@click.option(
    "--host", default="0.0.0.0", show_default=True, help="Address that boards connect to."
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/etc/goodspeed"),
    show_default=True,
    help="Where settings and tokens go.",
)
@click.option(
    "--state-directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/lib/goodspeed"),
    show_default=True,
    help="Where the measured cost curve is kept.",
)
@click.option(
    "--private-ca",
    "is_private_ca",
    is_flag=True,
    help="Make an authority of this verifier's own and a certificate: boards connect over TLS.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    help="With --private-ca: a name or address more by which boards call this machine.",
)
@click.option("--replace", is_flag=True, help="Write settings anew that hold something else.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def init(
    model: str,
    host: str,
    directory: Path,
    state_directory: Path,
    is_private_ca: bool,
    names: tuple[str, ...],
    replace: bool,
    dry_run: bool,
) -> None:
    """Write the settings and an empty file of tokens; a second call changes nothing."""
    tokens_file = directory / "credentials" / "tokens"
    if names and not is_private_ca:
        raise ConfigError(("--name: takes --private-ca",))
    check_names(names)
    tls = TlsFiles.within(directory / "tls") if is_private_ca else None
    tls_files = [] if tls is None else private_tls_files(tls, (*own_names(), *names), time.time())
    settings = FirstFile(
        directory / "verifier.toml",
        _settings(model, host, tokens_file, state_directory, tls),
        mode=0o644,
    )
    load_config(VerifierConfig, overrides={"server.host": host, "target.model": model})
    check_replaceable([settings], replaces=replace)
    # Whatever tokens there are stay; the file is only made readable for the service.
    known = tokens_file.read_text(encoding="utf-8") if tokens_file.exists() else ""
    tokens = FirstFile(tokens_file, known, mode=0o640, is_secret=True, is_for_service=True)
    for sentence in write_first_files([*tls_files, settings, tokens], is_dry_run=dry_run):
        click.echo(sentence)
    for note in _notes(tls, is_there=not dry_run):
        click.echo(f"note: {note}")
    for command in _next_commands(model, settings.path, tokens_file):
        click.echo(f"next: {command}")


def _notes(tls: TlsFiles | None, *, is_there: bool) -> Iterator[str]:
    if tls is None:
        yield (
            "the port has no TLS: keep it in the boards' network, or behind a proxy with TLS, or "
            "give --private-ca"
        )
    elif is_there:
        certificate = read_certificate(tls.certificate)
        port = VerifierConfig().server.port
        board = f"goodspeed-agent init --verifier wss://{certificate.names[0]}:{port} --token -"
        yield f"copy {tls.authority} to each board, and there: {board} --ca ca.crt"
        yield f"or, without that file: {board} --pin {certificate.pin}"
        yield f"boards may call this machine {', '.join(certificate.names)}; --name adds to them"


def _settings(
    model: str, host: str, tokens_file: Path, state_directory: Path, tls: TlsFiles | None
) -> str:
    tls_lines = ""
    if tls is not None:
        tls_lines = f"certificate_file = {shown(tls.certificate)}\nkey_file = {shown(tls.key)}\n"
    return (
        "# Written by `goodspeed-verifier init`; `goodspeed-verifier config init` explains every\n"
        "# key.\n"
        "\n"
        "[server]\n"
        f"host = {shown(host)}\n"
        f"tokens_file = {shown(tokens_file)}\n"
        f"{tls_lines}"
        "\n"
        "[target]\n"
        f"model = {shown(model)}\n"
        "\n"
        "[state]\n"
        f"directory = {shown(state_directory)}\n"
    )


def _next_commands(model: str, settings: Path, tokens_file: Path) -> Iterator[str]:
    if "/" not in model and not cached_path(default_cache_dir(os.environ), model).exists():
        yield pull_command(model)
    if not tokens_file.exists() or not read_tokens(tokens_file):
        default = VerifierConfig().server.tokens_file
        option = "" if tokens_file == default else f" --tokens-file {tokens_file}"
        yield f"goodspeed-verifier token add BOARD{option}"
    yield start_command("goodspeed-verifier", settings)
