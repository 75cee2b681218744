"""What is installed is at or above the floors of pyproject.toml, whose reasons are known faults.

All that can be had without a database of faults: `make audit` asks one.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [
    Requirement(line)
    for line in (*PROJECT["dependencies"], *(r for e in EXTRAS.values() for r in e))
]
# Mended there: pyproject.toml says of what. https://osv.dev has them all.
MENDED = {"aiohttp": "3.14.4", "jinja2": "3.1.6"}


def floor(requirement: Requirement) -> Version:
    """The lowest version that it takes; each has one."""
    (lowest,) = (one.version for one in requirement.specifier if one.operator == ">=")
    return Version(lowest)


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda each: each.name)
def test_what_is_installed_is_what_was_asked_for(requirement: Requirement) -> None:
    try:
        installed = Version(version(requirement.name))
    except PackageNotFoundError:
        pytest.skip("not installed here")
    if requirement.marker is None or requirement.marker.evaluate():
        assert floor(requirement) <= installed
        # Of a build without CUDA the local part (+cpu) is nobody's business.
        assert requirement.specifier.contains(installed.public, prereleases=True)


def test_nothing_is_asked_for_in_a_version_with_a_known_fault() -> None:
    floors = {each.name: floor(each) for each in REQUIREMENTS}
    assert [] == [name for name, mended in MENDED.items() if floors[name] < Version(mended)]


def test_every_floor_that_a_fault_has_raised_names_it() -> None:
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    for name, mended in MENDED.items():
        (reason,) = re.findall(rf"((?:^ *#.*\n)+) *\"{name}>={re.escape(mended)}\"", text, re.M)
        assert re.search(r"(CVE|PYSEC)-\d{4}-\d+", reason), name
