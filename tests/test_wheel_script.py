"""devices/wheels/build.sh: the flags of each class of boards, and what it refuses."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.programs.command import ROOT, environment

SCRIPT = ROOT / "devices" / "wheels" / "build.sh"
FLAGS = {
    "pi4": {"GGML_CPU_ARM_ARCH": "armv8-a"},
    "arm64": {"GGML_CPU_ARM_ARCH": "armv8-a"},
    "pi5": {"GGML_CPU_ARM_ARCH": "armv8.2-a+dotprod+fp16"},
    "orin": {
        "GGML_CPU_ARM_ARCH": "armv8.2-a+dotprod+fp16",
        "GGML_CUDA": "ON",
        "CMAKE_CUDA_ARCHITECTURES": "87",
        "GGML_CUDA_NO_VMM": "ON",
        "GGML_CUDA_FORCE_MMQ": "ON",
    },
    "x86_64": {f"GGML_{name}": "ON" for name in ("AVX", "AVX2", "FMA", "F16C", "BMI2")},
}


def build(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SCRIPT), *arguments],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    checked = subprocess.run(
        ["shellcheck", str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert "" == checked.stdout


@pytest.mark.parametrize("board", FLAGS)
def test_a_class_has_its_flags(board: str) -> None:
    told = build(board, "--dry-run", "--output", "there")
    assert 0 == told.returncode
    match = re.search(r"CMAKE_ARGS='([^']*)'", told.stdout)
    assert match is not None
    flags = dict(flag.removeprefix("-D").split("=", 1) for flag in match[1].split())
    assert {"GGML_NATIVE": "OFF", "LLAVA_BUILD": "OFF"} | FLAGS[board] == flags
    assert f"--wheel-dir there/{board} " in told.stdout
    assert "--no-cache-dir" in told.stdout


def test_the_version_is_one_that_the_agent_takes() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (needed,) = project["optional-dependencies"]["agent"]
    match = re.search(r"llama-cpp-python==(\S+)", build("pi5", "--dry-run").stdout)
    assert match is not None
    assert f"llama-cpp-python>={match[1]},<0.4" == needed
    other = build("pi5", "--dry-run", LLAMA_CPP_PYTHON="0.3.40").stdout
    assert "llama-cpp-python==0.3.40" in other


@pytest.mark.skipif(platform.machine() != "x86_64", reason="builds for this machine alone")
def test_pip_gets_the_flags_and_no_date(tmp_path: Path) -> None:
    """With SOURCE_DATE_EPOCH llama.cpp builds for another processor than it is told."""
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\nenv > "$0.env"\nprintf "%s\\n" "$@" > "$0.arguments"\n')
    fake.chmod(0o755)
    told = build(
        *("x86_64", "--python", str(fake), "--output", str(tmp_path)),
        SOURCE_DATE_EPOCH="1",
        CMAKE_BUILD_PARALLEL_LEVEL="3",
    )
    assert (0, "") == (told.returncode, told.stderr)
    seen = dict(
        line.split("=", 1) for line in Path(f"{fake}.env").read_text().splitlines() if "=" in line
    )
    assert "SOURCE_DATE_EPOCH" not in seen
    assert "-DGGML_AVX2=ON" in seen["CMAKE_ARGS"].split()
    assert "3" == seen["CMAKE_BUILD_PARALLEL_LEVEL"]
    arguments = Path(f"{fake}.arguments").read_text().splitlines()
    assert ["-m", "pip", "wheel"] == arguments[:3]
    assert "llama-cpp-python==0.3.36" == arguments[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "which class? one of: pi4 pi5 orin arm64 x86_64"),
        (("pi3",), "unknown class pi3"),
        (("pi4", "pi5"), "one class at a time"),
        (("pi4", "--fast"), "unknown option --fast"),
        (("pi4", "--output"), "--output needs a value"),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments: tuple[str, ...], words: str) -> None:
    told = build(*arguments)
    assert (2, "") == (told.returncode, told.stdout)
    (line,) = told.stderr.splitlines()
    assert line.startswith(f"error: {words}")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="another machine is refused there")
def test_another_machine_is_refused_with_the_way_out() -> None:
    told = build("pi5")
    assert 2 == told.returncode
    assert "podman run --platform linux/arm64" in told.stderr
