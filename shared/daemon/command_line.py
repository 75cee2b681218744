"""What both command lines have in common: settings, logging, and errors as one sentence.

A user never sees a traceback for a fault that a sentence explains: exit code 78 for settings, 2
for everything else.
"""

from __future__ import annotations

import functools
import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar, get_args

import click

from shared.config.layers import ConfigFile, read_config_files
from shared.config.rendering import effective_toml, example_toml, json_schema
from shared.config.sections import ConfigT, Loaded, LogFormat, config_report, load_config
from shared.daemon.lifecycle import EXIT_INTERRUPTED, end_if_loading
from shared.daemon.log_output.journal import JournalHandler, takes_journal
from shared.daemon.log_output.json_lines import JsonFormatter
from shared.daemon.log_output.traceback_limit import TracebackLimit
from shared.daemon.peer_text import LogFormatter, terminal_text
from shared.errors import ConfigError, GoodspeedError

EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h: a service manager must not start it again
EXIT_ERROR = 2

_Result = TypeVar("_Result")


class FriendlyGroup(click.Group):
    """A command group whose errors are sentences."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; ends the process with 78 or 2 and one sentence when it fails."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            click.echo(terminal_text(config_report(error)), err=True)
            _exit(ctx, EXIT_CONFIG)
        except (GoodspeedError, OSError) as error:
            click.echo(f"error: {terminal_text(_sentence(error))}", err=True)
            _exit(ctx, EXIT_ERROR)
        except KeyboardInterrupt:
            _exit(ctx, EXIT_INTERRUPTED)


def _exit(ctx: click.Context, code: int) -> NoReturn:
    end_if_loading(code)
    ctx.exit(code)


@contextmanager
def told_when_interrupted(sentence: str) -> Iterator[None]:
    """Say what an interruption leaves behind; the group that runs the command then ends it.

    SIGTERM is one, as Ctrl-C is: what a command keeps for the next time it keeps at both.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        click.echo(sentence, err=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


class CommandModules(FriendlyGroup):
    """A group whose commands are imported when they are called, or when help lists them.

    Command `run` is `run` in the module `run` of a package, and so on. A board's program is ready
    in half the time, and in half the memory, without the terminal chat's libraries.
    """

    def __init__(self, *, package: str, names: Sequence[str], **others: Any) -> None:
        super().__init__(**others)
        self._package = package
        self._names = tuple(names)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, as help lists them."""
        return sorted(self._names)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in self._names:
            return None
        module = importlib.import_module(f"{self._package}.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command


class SettingsSource(Generic[ConfigT]):
    """Where a program's settings come from, lowest layer first.

    The board's profile, a file with those beside it, the environment, the command line.
    """

    def __init__(
        self,
        config_type: type[ConfigT],
        default_file: Path,
        read_profiles: Callable[[], tuple[ConfigFile, ...]] = tuple,
    ) -> None:
        """`default_file`: read where no other is named, if it is there."""
        self.config_type = config_type
        self.default_file = default_file
        self._read_profiles = read_profiles

    def load(self, file: Path | None, assignments: Sequence[str]) -> Loaded[ConfigT]:
        """The settings in force.

        Raises:
            ConfigError: with every problem of every layer.
        """
        if file is None and self.default_file.exists():
            file = self.default_file
        files = self._read_profiles() + (() if file is None else read_config_files(file))
        overrides = dict(_assignment(text) for text in assignments)
        return load_config(self.config_type, files, os.environ, overrides)


def settings_options(
    source: SettingsSource[ConfigT], *, reloads: bool = False
) -> Callable[[Callable[..., _Result]], Callable[..., _Result]]:
    """Add --config and --set to a command; it gets the loaded settings as `loaded`.

    `reloads`: and as `reload` what loads them again.
    """

    def decorate(command: Callable[..., _Result]) -> Callable[..., _Result]:
        @click.option(
            "--config",
            type=click.Path(path_type=Path),  # a directory is a wrong setting, not a wrong call
            help="TOML file; FILE.d/*.toml beside it is read, too. "
            f"By default {source.default_file}, if it is there.",
        )
        @click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="SECTION.KEY=VALUE",
            help="One setting over all files; may be given many times.",
        )
        @functools.wraps(command)
        def with_settings(
            config: Path | None, assignments: tuple[str, ...], **others: object
        ) -> _Result:
            if reloads:
                others["reload"] = functools.partial(source.load, config, assignments)
            return command(loaded=source.load(config, assignments), **others)

        return with_settings

    return decorate


def config_commands(source: SettingsSource[ConfigT]) -> click.Group:
    """The `config` group: init, check, show, schema."""

    @click.group()
    def config() -> None:
        """Look at settings: where they come from, whether they are right."""

    @config.command()
    def init() -> None:
        """Print a file with every setting, its default and what it is for."""
        click.echo(example_toml(source.config_type), nl=False)

    @config.command()
    @settings_options(source)
    def check(loaded: Loaded[ConfigT]) -> None:
        """Read all settings and report every problem at once (exit code 78)."""
        click.echo("all settings are right")

    @config.command()
    @click.option("--origin/--no-origin", default=True, help="Say where each comes from.")
    @settings_options(source)
    def show(loaded: Loaded[ConfigT], origin: bool) -> None:
        """Print every setting in force and where it comes from; secrets are covered."""
        click.echo(effective_toml(loaded, with_origins=origin), nl=False)

    @config.command()
    def schema() -> None:
        """Print a JSON Schema of the file, for editors that check while you type."""
        click.echo(json.dumps(json_schema(source.config_type), indent=2, ensure_ascii=False))

    return config


def log_format_option(command: Callable[..., _Result]) -> Callable[..., _Result]:
    """Add --log-format, which goes before the setting."""
    return click.option(
        "--log-format",
        type=click.Choice([name for name in get_args(LogFormat) if name != "auto"]),
        help="Of the log on standard error, or in the journal with fields; in place of log.format.",
    )(command)


def set_up_logging(level: str, log_format: LogFormat = "auto") -> None:
    """Log to standard error, or to the journal with fields.

    Text under systemd has priorities, and not the time that it adds itself.
    """
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    is_there = takes_journal(os.environ)
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    elif log_format == "journal" or (log_format == "auto" and is_there):
        handler = JournalHandler(sys.stderr, Path(sys.argv[0]).name)
    else:
        handler.setFormatter(LogFormatter(for_journal="JOURNAL_STREAM" in os.environ))
    handler.addFilter(TracebackLimit())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def set_log_level(level: str) -> None:
    """Show what is of this level or above from now on."""
    logging.getLogger().setLevel(level.upper())


def _sentence(error: GoodspeedError | OSError) -> str:
    """What went wrong, without the number that `OSError` puts first."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _assignment(text: str) -> tuple[str, object]:
    """`key=value` with the value as TOML and JSON write it; a bare word is a string."""
    key, equals, value = text.partition("=")
    if not key.strip() or not equals:
        raise ConfigError((f"--set {text}: must be SECTION.KEY=VALUE",))
    try:
        return key.strip(), json.loads(value)
    except ValueError:
        return key.strip(), value
