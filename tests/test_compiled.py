"""devices/wheels/compiled.py: which modules become C, and that they do what they did before."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.programs.command import ROOT

HOOK = ROOT / "devices" / "wheels" / "compiled.py"
# A stream's turn in a round passes through these; a Struct among them would leave them behind.
HOT = {
    *("shared/protocol/text.py", "shared/protocol/token_ids.py"),
    "shared/speculation/calibration.py",
    *(f"verifier/rounds/{name}.py" for name in ("admission", "blocks", "packing", "planner")),
    *(f"verifier/scheduling/{name}.py" for name in ("gathered", "live_drafts", "schedule")),
    *(f"verifier/streams/{name}.py" for name in ("draft_arrival", "estimates", "stream")),
}
# Below tests/verifier; the last file puts a class of its own in the place of a compiled one.
TESTED = ("rounds", "scheduling", "streams", "sim/test_agreement.py")
OF_THEIR_OWN_CLASSES = "tests/verifier/scheduling/test_rest.py"


def compiled_modules() -> list[str]:
    spec = importlib.util.spec_from_file_location("compiled", HOOK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[str] = module.compiled_modules(ROOT)
    return found


def test_what_a_stream_passes_in_a_round_can_be_compiled() -> None:
    assert HOT <= set(compiled_modules())


def test_no_message_and_no_empty_module_is_compiled() -> None:
    assert not {"shared/protocol/messages.py", "verifier/rounds/__init__.py"} & set(
        compiled_modules()
    )


@pytest.mark.slow
def test_a_compiled_verifier_plans_as_the_plain_one(tmp_path: Path) -> None:
    """Built, unpacked, its wings' tests passed, and a simulated fleet played byte for byte."""
    before = {path for path in ROOT.rglob("*.so") if ".venv" not in path.parts}
    wheel = build(tmp_path)
    assert before == {path for path in ROOT.rglob("*.so") if ".venv" not in path.parts}
    place = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    assert HOT <= {
        f"{path.relative_to(place).parent}/{path.name.partition('.')[0]}.py"
        for path in place.rglob("*.so")
    }
    for name in ("tests", "devices", "docs", "pyproject.toml"):
        (place / name).symlink_to(ROOT / name)
    tests = [f"tests/verifier/{name}" for name in TESTED]
    run(place, "pytest", "-q", "-p", "no:cacheprovider", *tests, f"--ignore={OF_THEIR_OWN_CLASSES}")
    for policy in ("goodspeed", "rate"):
        worlds = "tests.benchmarks.same_worlds", "--against", str(place), "--seconds", "2"
        run(ROOT, *worlds, "--policies", policy)


def build(directory: Path) -> Path:
    command = ["pip", "wheel", "--no-build-isolation", "--no-deps", "-w", str(directory), str(ROOT)]
    run(ROOT, *command, HATCH_BUILD_HOOKS_ENABLE="1")
    (wheel,) = directory.glob("*.whl")
    return wheel


def run(place: Path, *module: str, **settings: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(place), **settings}
    command = [sys.executable, "-m", *module]
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stdout[-4000:] + done.stderr[-4000:]
