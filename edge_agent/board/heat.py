"""Temperature, throttling and supply voltage of the board, from sysfs alone.

Sensors are found by their names, so that a board without one says nothing of it. This module must
never start a program, and never need more rights than any user has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
# What the firmware of a Raspberry Pi tells: bit 0 undervoltage, 1 frequency capped, 2 throttled, 3
# soft limit of temperature; the same 16 higher: it has happened since the board was started.
_UNDERVOLTAGE = 1 << 0
_SLOWED = 1 << 1 | 1 << 2 | 1 << 3
_SINCE_START = 16
# Zones of chargers and radios say nothing of the processor.
_ZONE = re.compile(r"cpu|soc|gpu|tj|x86_pkg|core|package|k10temp", re.IGNORECASE)


class Heat(msgspec.Struct, frozen=True):
    """What sensors tell; None where the board has none."""

    celsius: float | None = None  # of the hottest zone of processor and GPU
    is_undervolted: bool | None = None
    was_undervolted: bool | None = None  # since the board was started
    is_slowed: bool | None = None  # by heat or supply
    was_slowed: bool | None = None
    overcurrent_events: int | None = None  # of a Jetson, since it was started


def read_heat(root: Path = Path("/")) -> Heat:
    """What the sensors of the machine whose file system this is tell now."""
    bits = _throttle_bits(root)
    alarm = _alarm(root)
    return Heat(
        celsius=max(_temperatures(root), default=None),
        is_undervolted=_either(_has(bits, _UNDERVOLTAGE), alarm),
        was_undervolted=_has(bits, _UNDERVOLTAGE << _SINCE_START),
        is_slowed=_has(bits, _SLOWED),
        was_slowed=_either(_has(bits, _SLOWED << _SINCE_START), _was_hot(root)),
        overcurrent_events=_overcurrent_events(root),
    )


def _temperatures(root: Path) -> Iterator[float]:
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        millidegrees = _number(zone / "temp")
        # A Jetson's zone whose unit is off reads as an error or as far below freezing.
        if millidegrees is not None and millidegrees > 0 and _ZONE.search(_text(zone / "type")):
            yield millidegrees / 1000


def _throttle_bits(root: Path) -> int | None:
    try:
        return int(_text(root / _THROTTLED), 16)
    except ValueError:
        return None


def _alarm(root: Path) -> bool | None:
    """The Pi's sensor of voltage, which kernels without the firmware's file have, too."""
    for sensor in _sensors(root, "rpi_volt"):
        value = _number(sensor / "in0_lcrit_alarm")
        if value is not None:
            return bool(value)
    return None


def _was_hot(root: Path) -> bool | None:
    """Of x86: each core counts how often heat slowed it or its package since the start."""
    counts = [
        _number(path)
        for path in root.glob("sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count")
    ]
    known = [count for count in counts if count is not None]
    return any(known) if known else None


def _overcurrent_events(root: Path) -> int | None:
    counts = [
        _number(path)
        for sensor in _sensors(root, "soctherm_oc")
        for path in sensor.glob("oc*_event_cnt")
    ]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _sensors(root: Path, name: str) -> list[Path]:
    sensors = sorted(root.glob("sys/class/hwmon/hwmon*"))
    return [sensor for sensor in sensors if _text(sensor / "name") == name]


def _has(bits: int | None, mask: int) -> bool | None:
    return None if bits is None else bool(bits & mask)


def _either(one: bool | None, other: bool | None) -> bool | None:
    return other if one is None else one or bool(other)


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # some zones refuse while their unit is off
        return ""
