"""What machine and which commit the demo's figures come from."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import date
from pathlib import Path

from tests.demo.table import Setting

ROOT = Path(__file__).parent.parent.parent


def this_setting() -> Setting:
    """This machine, today, at this commit."""
    load, _, _ = os.getloadavg()
    return Setting(_processor(), _num_cores(), load, date.today().isoformat(), _commit())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _num_cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS has none
        return os.cpu_count() or 1


def _commit() -> str | None:
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    described = subprocess.run(command, capture_output=True, text=True, check=False)
    return described.stdout.strip() or None
