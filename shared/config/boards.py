"""Which board this is, and the vendor's settings for it: the lowest layer of settings.

Reads what the kernel tells and files of ours. This module must never judge a setting.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from shared.config.layers import ConfigFile, read_config_file
from shared.config.words import did_you_mean
from shared.errors import ConfigError

PROFILE_VARIABLE = "GOODSPEED_PROFILE"
# By the device tree's name of the board; the first that is found in it.
_BY_DEVICE_TREE = (
    (r"Raspberry Pi (4|400|Compute Module 4)\b", "pi4"),
    (r"Raspberry Pi (5|500|Compute Module 5)\b", "pi5"),
    (r"\bOrin (Nano|NX)\b", "jetson-orin-nano"),
    (r"\bAGX Orin\b", "jetson-agx-orin"),
)
_BY_MACHINE = {"x86_64": "generic-x86_64", "aarch64": "generic-aarch64"}
_FEW_CORES = 4
_LITTLE_MEMORY_BYTES = 1.9e9  # a board of 2 GB tells of 1.95 to 2.05, one of 1 GB of at most 1.0
_INSTALLED = Path(__file__).with_name("profiles")
_IN_THE_REPOSITORY = Path(__file__).parents[2] / "devices" / "profiles"


class Board(msgspec.Struct, frozen=True):
    """What the kernel tells of the machine; 0 or empty where it does not."""

    device_tree: str
    machine: str
    num_cores: int
    memory_bytes: int


def find_board(root: Path = Path("/"), machine: str | None = None) -> Board:
    """The board whose file system this is; `machine`: as uname has it, by default this one."""
    memory = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE)
    cores = re.findall(r"^processor\s*:", _text(root / "proc/cpuinfo"), re.MULTILINE)
    return Board(
        device_tree=_text(root / "proc/device-tree/model").rstrip("\0"),
        machine=os.uname().machine if machine is None else machine,
        num_cores=len(cores),
        memory_bytes=int(memory[1]) * 1024 if memory else 0,
    )


def profile_names(board: Board) -> tuple[str, ...]:
    """The profiles of a board, lowest first: its own, then those for what it lacks."""
    known = (name for pattern, name in _BY_DEVICE_TREE if re.search(pattern, board.device_tree))
    own = next(known, _BY_MACHINE.get(board.machine))
    names = [] if own is None else [own]
    if 0 < board.num_cores < _FEW_CORES:
        names.append("few-cores")
    if 0 < board.memory_bytes < _LITTLE_MEMORY_BYTES:
        names.append("little-memory")
    return tuple(names)


def read_profiles(environment: Mapping[str, str], root: Path = Path("/")) -> tuple[ConfigFile, ...]:
    """The profiles of this board, or the one that $GOODSPEED_PROFILE names; `none`: no profile.

    Raises:
        ConfigError: there is no profile of that name.
    """
    chosen = environment.get(PROFILE_VARIABLE, "")
    directory = _INSTALLED if _INSTALLED.is_dir() else _IN_THE_REPOSITORY
    if not chosen:
        names = profile_names(find_board(root))
    elif chosen == "none":
        names = ()
    else:
        _check_name(chosen, directory)
        names = (chosen,)
    return tuple(read_config_file(directory / f"{name}.toml") for name in names)


def _check_name(name: str, directory: Path) -> None:
    known = sorted(path.stem for path in directory.glob("*.toml"))
    if name not in known:
        meant = did_you_mean(name, known)
        hint = f" (did you mean {meant}?)" if meant else ""
        sentence = f"must be none or one of {', '.join(known)}{hint}"
        raise ConfigError((f"environment {PROFILE_VARIABLE} = {name}: {sentence}",))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
