"""Downloading a wheel with a pip that is a script of ours: no network."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge_agent.models.download import download_wheel
from shared.errors import ModelError

PIP_BEGINS = """
import os, pathlib, sys
assert sys.argv[1] == "--dest" and sys.argv[3] == "birds==1.0", sys.argv
unfinished = pathlib.Path(os.environ["TMPDIR"], "birds.whl")
wheel = pathlib.Path(sys.argv[2], "birds-1.0-py3-none-any.whl")
"""


def pip(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", PIP_BEGINS + script)


def ignore(_num_bytes: int) -> None:
    pass


def test_the_wheel_is_where_pip_put_it(tmp_path: Path) -> None:
    script = "wheel.write_bytes(b'zip')"
    wheel = download_wheel("birds==1.0", tmp_path, ignore, pip(script))
    assert ("birds-1.0-py3-none-any.whl", b"zip") == (wheel.name, wheel.read_bytes())


def test_progress_is_the_growing_file_in_pips_temporary_directory(tmp_path: Path) -> None:
    goes_on = tmp_path / "goes-on"
    script = f"""
unfinished.write_bytes(bytes(500))
while not pathlib.Path({str(goes_on)!r}).exists():
    pass
wheel.write_bytes(b"zip")
"""
    seen: list[int] = []

    def on_bytes(num_bytes: int) -> None:
        seen.append(num_bytes)
        if num_bytes == 500:
            goes_on.touch()

    download_wheel("birds==1.0", tmp_path, on_bytes, pip(script))
    assert 500 in seen


def test_pips_own_error_is_told(tmp_path: Path) -> None:
    script = "sys.exit('WARNING: x\\nERROR: No matching distribution found\\nbye')"
    sentence = r"pip cannot download birds==1\.0: No matching distribution found$"
    with pytest.raises(ModelError, match=sentence):
        download_wheel("birds==1.0", tmp_path, ignore, pip(script))


def test_a_pip_that_dies_without_a_word_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="it gave no reason"):
        download_wheel("birds==1.0", tmp_path, ignore, pip("sys.exit(3)"))


def test_no_wheel_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"pip brought 0 wheels for birds==1\.0 instead of 1"):
        download_wheel("birds==1.0", tmp_path, ignore, pip(""))


def test_an_interruption_ends_pip(tmp_path: Path) -> None:
    def interrupt(_num_bytes: int) -> None:
        raise KeyboardInterrupt

    # That pip is gone is checked for every test: none may leave a child process.
    with pytest.raises(KeyboardInterrupt):
        download_wheel("birds==1.0", tmp_path, interrupt, pip("while True: pass"))
