"""The board is known by what its kernel tells; trees of files stand for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.config import AgentConfig
from edge_agent.models.presets import PRESETS
from shared.config.boards import Board, find_board, profile_names, read_profiles
from shared.config.layers import ConfigFile, read_config_file
from shared.config.sections import load_config
from shared.errors import ConfigError

PROFILES = Path(__file__).parents[3] / "devices" / "profiles"
PI4 = "Raspberry Pi 4 Model B Rev 1.4"


def tree(root: Path, *, model: str = "", num_cores: int = 4, memory_kb: int = 8_000_000) -> Path:
    """The files of a board that are read."""
    proc = root / "proc"
    proc.mkdir(parents=True)
    cores = "".join(f"processor\t: {core}\nBogoMIPS\t: 108.00\n\n" for core in range(num_cores))
    (proc / "cpuinfo").write_text(cores + f"Model\t\t: {model}\n")
    (proc / "meminfo").write_text(f"MemTotal:        {memory_kb} kB\nMemFree:  1000 kB\n")
    if model:
        (proc / "device-tree").mkdir()
        (proc / "device-tree" / "model").write_bytes(model.encode() + b"\0")
    return root


def test_a_board_tells_its_name_its_cores_and_its_memory(tmp_path: Path) -> None:
    board = find_board(tree(tmp_path, model=PI4, memory_kb=3_884_000), machine="aarch64")
    assert Board(PI4, "aarch64", num_cores=4, memory_bytes=3_884_000 * 1024) == board


@pytest.mark.parametrize(
    ("model", "machine", "expected"),
    [
        (PI4, "aarch64", "pi4"),
        ("Raspberry Pi 400 Rev 1.0", "aarch64", "pi4"),
        ("Raspberry Pi Compute Module 4 Rev 1.1", "aarch64", "pi4"),
        ("Raspberry Pi 5 Model B Rev 1.0", "aarch64", "pi5"),
        ("Raspberry Pi 500 Rev 1.0", "aarch64", "pi5"),
        ("Raspberry Pi Compute Module 5 Rev 1.0", "aarch64", "pi5"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "aarch64", "generic-aarch64"),
        ("NVIDIA Jetson Orin Nano Developer Kit", "aarch64", "jetson-orin-nano"),
        (
            "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
            "aarch64",
            "jetson-orin-nano",
        ),
        ("NVIDIA Jetson AGX Orin Developer Kit", "aarch64", "jetson-agx-orin"),
        ("Radxa ROCK 5B", "aarch64", "generic-aarch64"),
        ("", "x86_64", "generic-x86_64"),
    ],
)
def test_each_board_has_its_profile(
    tmp_path: Path, model: str, machine: str, expected: str
) -> None:
    board = find_board(tree(tmp_path, model=model), machine)
    assert (expected,) == profile_names(board)
    assert (PROFILES / f"{expected}.toml").is_file()


@pytest.mark.parametrize(
    ("num_cores", "memory_kb", "expected"),
    [
        (4, 1_990_000, ("pi4",)),
        (4, 930_000, ("pi4", "little-memory")),
        (2, 3_900_000, ("pi4", "few-cores")),
        (1, 500_000, ("pi4", "few-cores", "little-memory")),
    ],
)
def test_what_a_board_lacks_stands_above_its_profile(
    tmp_path: Path, num_cores: int, memory_kb: int, expected: tuple[str, ...]
) -> None:
    root = tree(tmp_path, model=PI4, num_cores=num_cores, memory_kb=memory_kb)
    assert expected == profile_names(find_board(root, "aarch64"))


def test_a_machine_that_tells_nothing_has_no_profile(tmp_path: Path) -> None:
    assert () == profile_names(find_board(tmp_path, machine="riscv64"))


def test_a_file_of_the_operator_stands_above_the_profile(tmp_path: Path) -> None:
    profiles = read_profiles({}, tree(tmp_path, model=PI4, memory_kb=900_000))
    own = ConfigFile("agent.toml", "[draft]\nthreads = 2\n")
    loaded = load_config(AgentConfig, [*profiles, own])
    draft = loaded.config.draft
    assert (2, 4, 1, 1024) == (
        *(draft.threads, draft.batch_threads, draft.max_streams, draft.context_tokens),
    )
    assert "agent.toml:2" == loaded.origins["draft.threads"]
    assert loaded.origins["draft.max_streams"].endswith("profiles/little-memory.toml:6")


def test_a_profile_is_chosen_by_name_or_left_out() -> None:
    (pi5,) = read_profiles({"GOODSPEED_PROFILE": "pi5"})
    assert pi5.name.endswith("profiles/pi5.toml")
    assert () == read_profiles({"GOODSPEED_PROFILE": "none"})


def test_a_profile_that_is_misspelt_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(ConfigError, match=r"GOODSPEED_PROFILE = pi-5: must be .*mean pi5\?"):
        read_profiles({"GOODSPEED_PROFILE": "pi-5"})


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_profile_fits_and_says_why(path: Path) -> None:
    profile = read_config_file(path)
    config = load_config(AgentConfig, [profile]).config
    assert config.draft.model in PRESETS
    assert config != AgentConfig() or "threads = 1" in profile.text
    lines = profile.text.splitlines()
    assert lines[0].startswith("# ")
    assert any(word in profile.text for word in ("estimated", "measured"))
