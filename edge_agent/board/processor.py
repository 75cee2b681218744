"""The board's processor as its kernel tells of it: what it can do, and how fast it may run.

This module must never write to sysfs, nor judge what it finds.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

_CPUFREQ = "sys/devices/system/cpu/cpu0/cpufreq"


class Processor(msgspec.Struct, frozen=True):
    """What is known of it; None where the kernel does not tell."""

    features: frozenset[str]  # as /proc/cpuinfo spells them; empty where it does not
    num_cores: int  # that this program may use
    governor: str | None = None
    driver: str | None = None
    allowed_mhz: float | None = None
    built_for_mhz: float | None = None


def read_processor(root: Path = Path("/")) -> Processor:
    """The processor of the machine whose file system this is."""
    return Processor(
        features=_features(root / "proc/cpuinfo"),
        num_cores=len(os.sched_getaffinity(0)),
        governor=_text(root / _CPUFREQ / "scaling_governor"),
        driver=_text(root / _CPUFREQ / "scaling_driver"),
        allowed_mhz=_mhz(root / _CPUFREQ / "scaling_max_freq"),
        built_for_mhz=_mhz(root / _CPUFREQ / "cpuinfo_max_freq"),
    )


def _features(path: Path) -> frozenset[str]:
    """Those that all cores have: a big core may have more than a little one."""
    named = [
        frozenset(value.split())
        for key, _, value in (line.partition(":") for line in (_text(path) or "").splitlines())
        if key.strip() in ("flags", "Features")  # of x86 and of Arm
    ]
    return frozenset.intersection(*named) if named else frozenset()


def _mhz(path: Path) -> float | None:
    kilohertz = _text(path)
    return int(kilohertz) / 1000 if kilohertz and kilohertz.isdigit() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
