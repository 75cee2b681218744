"""Free memory is what the machine has, or what the cgroup leaves of it."""

from __future__ import annotations

from pathlib import Path

from shared.daemon.resources.main_memory import (
    ResidentMemory,
    free_main_memory,
    gib,
    resident_memory,
)

MIB = 1 << 20


def machine(directory: Path, cgroup: str = "0::/", **files: str) -> tuple[Path, Path]:
    """/proc and /sys/fs/cgroup of a machine with 1,000 MiB available."""
    proc, cgroups = directory / "proc", directory / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 9999999 kB\nMemAvailable: {1000 * 1024} kB\n")
    (proc / "self/cgroup").write_text(f"{cgroup}\n")
    own = cgroups / cgroup.removeprefix("0::").lstrip("/")
    own.mkdir(parents=True)
    for name, text in files.items():
        (own / f"memory.{name}").write_text(text)
    return proc, cgroups


def test_a_machine_without_limits_has_what_is_available(tmp_path: Path) -> None:
    assert 1000 * MIB == free_main_memory(*machine(tmp_path))
    assert 1000 * MIB == free_main_memory(*machine(tmp_path / "2", max="max\n", current="7\n"))


def test_a_cgroup_leaves_less_and_gives_its_file_caches_back(tmp_path: Path) -> None:
    given = machine(
        tmp_path,
        "0::/system.slice/goodspeed.service",
        max=f"{300 * MIB}\n",
        current=f"{200 * MIB}\n",
        stat=f"anon 5\ninactive_file {50 * MIB}\n",
    )
    assert 150 * MIB == free_main_memory(*given)


def test_a_system_that_does_not_tell_has_no_limit(tmp_path: Path) -> None:
    assert free_main_memory(tmp_path, tmp_path) is None


def test_this_machine_tells() -> None:
    assert (free_main_memory() or 0) > 10 * MIB


def test_a_size_is_for_a_person() -> None:
    assert "1.5 GiB" == gib(1536 * MIB)


def test_what_a_process_holds_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/smaps_rollup").write_text(
        "5600-7fff ---p 00000000 00:00 0    [rollup]\nRss: 3000 kB\nAnonymous: 1000 kB\n"
    )
    held = resident_memory("7", tmp_path)
    assert ResidentMemory(1000 * 1024, 2000 * 1024) == held
    assert "3 MB resident, 2 of them mapped files" == str(held)
    assert resident_memory("8", tmp_path) is None


def test_this_process_is_no_exception() -> None:
    held = resident_memory()
    assert held is not None
    assert held.anonymous > 5 * MIB
