"""`goodspeed-agent doctor`: is this board well, and does it pay at its verifier?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_agent.commands.settings import SETTINGS
from edge_agent.config import AgentConfig
from shared.config.sections import Loaded
from shared.daemon.command_line import settings_options
from shared.daemon.files import replace_file
from shared.daemon.resources.cpu_threads import limit_spinning
from shared.doctor.report import Report
from shared.errors import GoodspeedError

if TYPE_CHECKING:
    from edge_agent.doctor.measured_settings import Measured

MEASURED_FILE = SETTINGS.default_file.with_name("agent.toml.d") / "50-measured.toml"

_EXAMPLES = """\b
Examples:
  sudo systemctl stop goodspeed-agent; sudo goodspeed-agent doctor
  goodspeed-agent doctor --set verifier.url=ws://192.168.1.10:8443 --json
"""


@click.command(epilog=_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="One object for programs, at the end.")
@click.option(
    "--write",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    is_flag=False,
    flag_value=str(MEASURED_FILE),
    help=f"Write the number of threads that was fastest, by default to {MEASURED_FILE}.",
)
@settings_options(SETTINGS)
def doctor(loaded: Loaded[AgentConfig], as_json: bool, file: Path | None) -> None:
    """Examine this board, and measure whether its drafts pay at its verifier.

    Takes less than a minute, and names for each thing that is wrong what mends it; without --write
    it changes nothing.
    Exit code 0: all is well; 1: warnings; 2: problems.
    """
    limit_spinning(os.environ)  # as `run` does, before llama.cpp is loaded, or threads are slower
    from edge_agent.commands.found_verifier import with_found_verifier
    from edge_agent.doctor.examination import Examination  # llama.cpp takes a second to load

    report = Report(sys.stdout, sys.stderr, as_json)
    examination = Examination(with_found_verifier(loaded.config), report.tell)
    exit_code = report.show(examination.findings())
    if file is not None:
        for sentence in _write(file, examination.measured):
            click.echo(sentence, err=as_json)
    click.get_current_context().exit(exit_code)


def _write(file: Path, measured: Measured | None) -> Iterator[str]:
    """Keep what was measured; tells what changes.

    Raises:
        GoodspeedError: nothing was measured, or this user may not write there.
    """
    from edge_agent.doctor.measured_settings import difference, measured_settings

    if measured is None:
        raise GoodspeedError(f"no speed was measured, so {file} is as it was")
    content = measured_settings(measured)
    try:
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        if content == before:
            yield f"{file} says so already"
            return
        replace_file(file, content.encode(), mode=0o644)
    except OSError as error:
        raise GoodspeedError(f"cannot write {file}: {error.strerror}") from error
    yield difference(before, content, str(file)).rstrip()
    yield f"wrote {file}; it counts from the agent's next start"
