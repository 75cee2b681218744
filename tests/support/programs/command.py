"""What a command needs to run as it would for a person: directory, environment, console scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[3]
PATIENCE_SECONDS = 30.0
_OF_A_SERVICE_MANAGER = {"JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
LAUNCHERS = (sys.executable, "-m", "tests.support.programs.launchers")


def console_script(name: str) -> Path:
    """Where the script of this name is, beside this interpreter."""
    return Path(sys.executable).with_name(name)


AGENT = (sys.executable, str(console_script("goodspeed-agent")))
VERIFIER = (sys.executable, str(console_script("goodspeed-verifier")))


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This one without settings of goodspeed, which would win over those given, and as outside of
    a service manager; where models are stays known.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GOODSPEED__") and name not in _OF_A_SERVICE_MANAGER
    }
    return kept | dict(extra or {})


def run(arguments: Sequence[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `python ARGUMENTS`."""
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr
