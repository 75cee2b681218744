"""`goodspeed-verifier doctor`: is this machine ready to serve boards?"""

from __future__ import annotations

import sys

import click

from shared.config.sections import Loaded
from shared.daemon.command_line import settings_options
from shared.doctor.report import Report
from verifier.commands.settings import SETTINGS
from verifier.config import VerifierConfig

_EXAMPLES = """\b
Examples:
  sudo goodspeed-verifier doctor
  goodspeed-verifier doctor --config verifier.toml --load --json
"""


@click.command(epilog=_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="One object for programs, at the end.")
@click.option(
    "--load", "loads", is_flag=True, help="Load the target, too, and say how long it took."
)
@settings_options(SETTINGS)
def doctor(loaded: Loaded[VerifierConfig], as_json: bool, loads: bool) -> None:
    """Examine this machine: port, tokens, directory of state, target, memory, cost curve.

    Changes nothing, and names for each thing that is wrong what mends it.
    Exit code 0: all is well; 1: warnings; 2: problems.
    """
    from verifier.doctor.examination import Examination  # aiohttp takes a moment to load

    report = Report(sys.stdout, sys.stderr, as_json)
    examination = Examination(loaded.config, report.tell, loads=loads)
    click.get_current_context().exit(report.show(examination.findings()))
