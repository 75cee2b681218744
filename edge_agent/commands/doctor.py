"""`goodspeed-agent doctor`: is this board well, and does it pay at its verifier?"""

from __future__ import annotations

import os
import sys

import click

from edge_agent.commands.settings import SETTINGS
from edge_agent.config import AgentConfig
from shared.config.sections import Loaded
from shared.daemon.command_line import settings_options
from shared.daemon.resources.cpu_threads import limit_spinning
from shared.doctor.report import Report

_EXAMPLES = """\b
Examples:
  sudo systemctl stop goodspeed-agent; sudo goodspeed-agent doctor
  goodspeed-agent doctor --set verifier.url=ws://192.168.1.10:8443 --json
"""


@click.command(epilog=_EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="One object for programs, at the end.")
@settings_options(SETTINGS)
def doctor(loaded: Loaded[AgentConfig], as_json: bool) -> None:
    """Examine this board, and measure whether its drafts pay at its verifier.

    Takes less than a minute, changes nothing, and names for each thing that is wrong what mends it.
    Exit code 0: all is well; 1: warnings; 2: problems.
    """
    limit_spinning(os.environ)  # as `run` does, before llama.cpp is loaded, or threads are slower
    from edge_agent.doctor.examination import Examination  # llama.cpp takes a second to load

    report = Report(sys.stdout, sys.stderr, as_json)
    examination = Examination(loaded.config, report.tell)
    click.get_current_context().exit(report.show(examination.findings()))
