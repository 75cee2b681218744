"""What an installation without a network takes: our wheel, and the dependencies of the tests."""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from tests.support.programs.command import ROOT


def build_wheel(directory: Path) -> Path:
    """The wheel of this tree."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(directory), versions=["standard"])
    return Path(wheel)


def dependencies_in(directory: Path) -> Mapping[str, str]:
    """The environment in which dependencies are those of the tests, and goodspeed is not there."""
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "goodspeed" not in path.name and path.suffix != ".pth" and path.name != "pip":
            (directory / path.name).symlink_to(path)
    return {"PYTHONPATH": str(directory), "PIP_NO_DEPS": "1"}
