"""How much main memory this program takes, and what is free: of the machine, within its cgroup."""

from __future__ import annotations

from pathlib import Path

import msgspec

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_GIB = 1 << 30


class ResidentMemory(msgspec.Struct, frozen=True):
    """What a process holds of main memory, in bytes."""

    anonymous: int
    files: int  # mapped: the kernel may take such pages back, and read them again

    @property
    def total(self) -> int:
        """Its resident set."""
        return self.anonymous + self.files

    def __str__(self) -> str:
        return f"{self.total / 1e6:.0f} MB resident, {self.files / 1e6:.0f} of them mapped files"


def resident_memory(process: str = "self", proc: Path = _PROC) -> ResidentMemory | None:
    """Of a process, by its number; None where the system does not tell."""
    fields = _fields(proc / process / "smaps_rollup")
    if "Rss:" not in fields:
        return None
    anonymous = int(fields["Anonymous:"]) * 1024
    return ResidentMemory(anonymous, int(fields["Rss:"]) * 1024 - anonymous)


def free_main_memory(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> int | None:
    """Bytes that can be taken without swapping; None where the system does not tell."""
    found = (_free_of_machine(proc), _free_of_cgroup(proc, cgroups))
    return min((free for free in found if free is not None), default=None)


def gib(num_bytes: int) -> str:
    """A size for a person."""
    return f"{num_bytes / _GIB:.1f} GiB"


def _free_of_machine(proc: Path) -> int | None:
    fields = _fields(proc / "meminfo")
    return int(fields["MemAvailable:"]) * 1024 if "MemAvailable:" in fields else None


def _free_of_cgroup(proc: Path, cgroups: Path) -> int | None:
    """Below the limit of this program's own cgroup (version 2); file caches can be given back."""
    own = next((line for line in _lines(proc / "self/cgroup") if line.startswith("0::")), "0::/")
    cgroup = cgroups / own.removeprefix("0::").lstrip("/")
    limit, used = _lines(cgroup / "memory.max"), _lines(cgroup / "memory.current")
    if not limit or not used or limit[0] == "max":
        return None
    return int(limit[0]) - int(used[0]) + int(_fields(cgroup / "memory.stat")["inactive_file"])


def _fields(path: Path) -> dict[str, str]:
    """The first two words of each line."""
    return {words[0]: words[1] for line in _lines(path) if len(words := line.split()) > 1}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
