"""`goodspeed-verifier init`: the settings and the file of tokens, and what to do next."""

from __future__ import annotations

from pathlib import Path

import click

from shared.config.sections import load_config
from shared.config.words import shown
from shared.daemon.first_files import (
    FirstFile,
    check_replaceable,
    start_command,
    write_first_files,
)
from verifier.config import TargetSection, VerifierConfig
from verifier.server.device_tokens import read_tokens

_EXAMPLES = """\b
Examples:
  goodspeed-verifier init
  goodspeed-verifier init --model /srv/models/Qwen3-8B --host 192.168.1.10 --dry-run
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
@click.option("--replace", is_flag=True, help="Write settings anew that hold something else.")
@click.option("--dry-run", is_flag=True, help="Say what would be written, and write nothing.")
def init(
    model: str, host: str, directory: Path, state_directory: Path, replace: bool, dry_run: bool
) -> None:
    """Write the settings and an empty file of tokens; a second call changes nothing."""
    tokens_file = directory / "credentials" / "tokens"
    settings = FirstFile(
        directory / "verifier.toml",
        _settings(model, host, tokens_file, state_directory),
        mode=0o644,
    )
    load_config(VerifierConfig, overrides={"server.host": host, "target.model": model})
    check_replaceable([settings], replaces=replace)
    # Whatever tokens there are stay; the file is only made readable for the service.
    known = tokens_file.read_text(encoding="utf-8") if tokens_file.exists() else ""
    tokens = FirstFile(tokens_file, known, mode=0o640, is_secret=True, is_for_service=True)
    for sentence in write_first_files([settings, tokens], is_dry_run=dry_run):
        click.echo(sentence)
    click.echo(
        "note: the port has no TLS: keep it in the boards' network, or behind a proxy with TLS"
    )
    click.echo(f"next: {_next_command(settings.path, tokens_file)}")


def _settings(model: str, host: str, tokens_file: Path, state_directory: Path) -> str:
    return (
        "# Written by `goodspeed-verifier init`; `goodspeed-verifier config init` explains every\n"
        "# key.\n"
        "\n"
        "[server]\n"
        f"host = {shown(host)}\n"
        f"tokens_file = {shown(tokens_file)}\n"
        "\n"
        "[target]\n"
        f"model = {shown(model)}\n"
        "\n"
        "[state]\n"
        f"directory = {shown(state_directory)}\n"
    )


def _next_command(settings: Path, tokens_file: Path) -> str:
    if tokens_file.exists() and read_tokens(tokens_file):
        return start_command("goodspeed-verifier", settings)
    default = VerifierConfig().server.tokens_file
    option = "" if tokens_file == default else f" --tokens-file {tokens_file}"
    return f"goodspeed-verifier token add BOARD{option}"
