"""devices/install.sh: into a root of its own, from wheels, without a network."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.programs.command import ROOT, environment
from tests.support.programs.wheelhouse import build_wheel, dependencies_in

SCRIPT = ROOT / "devices" / "install.sh"


def install(
    *arguments: object, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SCRIPT), *(str(argument) for argument in arguments)],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def children_seconds() -> float:
    """Processor time of all programs that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheels")).parent


@pytest.fixture(scope="module")
def from_here(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of an installation without a network."""
    return dependencies_in(tmp_path_factory.mktemp("dependencies"))


def test_it_is_posix_shell() -> None:
    assert 0 == subprocess.run(["sh", "-n", str(SCRIPT)], check=False).returncode
    assert os.access(SCRIPT, os.X_OK)


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    command = ["shellcheck", "--shell=sh", str(SCRIPT)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "" == checked.stdout


@pytest.mark.parametrize("program", ["agent", "verifier"])
def test_a_dry_run_says_what_it_would_do_and_does_nothing(tmp_path: Path, program: str) -> None:
    done = install(program, "--root", tmp_path, "--dry-run")
    assert (0, "") == (done.returncode, done.stderr)
    assert set() == below(tmp_path)
    assert f"{ROOT}[{program},tls]" in done.stdout
    assert f"{tmp_path}/etc/systemd/system/goodspeed-{program}.service" in done.stdout
    worker = f"{tmp_path}/etc/systemd/system/goodspeed-worker.service"
    assert (program == "verifier") == (worker in done.stdout)
    commands = [line for line in done.stdout.splitlines() if line.startswith("would run: ")]
    assert 8 < len(commands)


def test_a_torch_that_was_chosen_stays_chosen(tmp_path: Path) -> None:
    release = tmp_path / "opt/goodspeed-releases/1"
    release.mkdir(parents=True)
    (release / "torch-chosen").write_text("torch==2.11.0\n")
    (tmp_path / "opt/goodspeed").symlink_to("/opt/goodspeed-releases/1")
    options = ("--root", tmp_path, "--dry-run")
    again = install("verifier", *options).stdout
    assert " torch==2.11.0\n" in again
    assert (
        " torch==2.13.0\n"
        in install("verifier", *options, settings={"TORCH": "torch==2.13.0"}).stdout
    )
    assert " torch" not in install("verifier", *options, settings={"TORCH": ""}).stdout
    assert " torch" not in install("agent", *options).stdout


def test_a_planner_that_is_compiled_stays_compiled(tmp_path: Path) -> None:
    options = ("--root", tmp_path, "--dry-run")
    plain = install("verifier", *options).stdout
    asked = install("verifier", *options, "--compile").stdout
    release = tmp_path / "opt/goodspeed-releases/1"
    release.mkdir(parents=True)
    (release / "compile-chosen").touch()
    (tmp_path / "opt/goodspeed").symlink_to("/opt/goodspeed-releases/1")
    again = install("verifier", *options).stdout
    said = "the planner is compiled"
    assert [False, True, True] == [said in told for told in (plain, asked, again)]
    releases = [set(re.findall(r"goodspeed-releases/(\d+)/bin", told)) for told in (plain, asked)]
    assert releases[0].isdisjoint(releases[1])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("agent", "--compile"), "is for a verifier"),
        (("verifier", "--compile", "--offline", "{tmp_path}"), "when it is made"),
    ],
)
def test_what_cannot_be_compiled_says_so(tmp_path: Path, call: tuple[str, ...], words: str) -> None:
    (tmp_path / "goodspeed-0-py3-none-any.whl").touch()
    options = [option.format(tmp_path=tmp_path) for option in call]
    done = install(*options, "--root", tmp_path / "root", "--dry-run")
    assert 2 == done.returncode
    assert words in done.stderr


def test_of_a_machine_with_both_programs_each_call_means_the_same_release(tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for program in ("agent", "verifier"):
        (units / f"goodspeed-{program}.service").touch()
    calls = [
        install(program, "--root", tmp_path, "--dry-run").stdout
        for program in ("agent", "verifier")
    ]
    releases = [set(re.findall(r"goodspeed-releases/(\d+)/bin/python", call)) for call in calls]
    assert 1 == len(releases[0])
    assert releases[0] == releases[1]
    assert all("[agent,verifier,tls]" in call for call in calls)


def test_a_release_that_is_not_whole_is_built_anew(tmp_path: Path) -> None:
    options = ("agent", "--root", tmp_path, "--dry-run")
    (name,) = set(re.findall(r"goodspeed-releases/(\d+)/bin/python", install(*options).stdout))
    release = tmp_path / "opt/goodspeed-releases" / name
    (release / "bin").mkdir(parents=True)
    (release / "bin/goodspeed-agent").touch(0o755)
    (tmp_path / "opt/goodspeed").symlink_to(f"/opt/goodspeed-releases/{name}")
    assert f"would run: rm -rf {release}\n" in install(*options).stdout
    (release / "whole").touch()
    assert "goodspeed-agent is up to date\n" in install(*options).stdout


def test_what_is_compiled_lies_beside_the_releases_meanwhile(tmp_path: Path) -> None:
    """In many a system /tmp is memory, and less than torch or a compiler takes."""
    done = install("agent", "--root", tmp_path, "--dry-run", settings={"TMPDIR": ""}).stdout
    places = re.findall(r"mkdir -p \S+ (\S+/opt/goodspeed-releases/\d+\.tmp)\n", done)
    assert 1 == len(places)
    assert f"would run: rm -rf {places[0]}\n" in done


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "say agent or verifier"),
        (("agent", "verifier"), "one of agent and verifier at a time"),
        (("agent", "--offline"), "--offline needs a value"),
        (("agent", "--uninstall", "--root", "--dry-run"), "--root needs a value"),
        (("agent", "--uninstall", "--root", ""), "--root needs a value"),
        (("agent", "--fast"), "unknown: --fast"),
        (("agent", "--python", "/bin/true-not-there"), "is no Python 3.11 or newer"),
        (("agent", "--offline", "/nowhere"), "/nowhere is no directory"),
        (("agent", "--rollback"), "nothing was installed before"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    done = install("--root", tmp_path, *arguments)
    assert 2 == done.returncode
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert sentence in line
    assert set() == below(tmp_path)


def test_without_systemd_nothing_is_installed_and_the_way_out_is_said(tmp_path: Path) -> None:
    for name in ("sh", "dirname", "id"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = install("agent", "--dry-run", settings={"PATH": str(tmp_path)})
    assert 2 == done.returncode
    assert done.stderr.startswith("error: there is no systemd")
    assert "" == done.stdout


def test_wheels_without_ours_are_refused_with_the_command_that_makes_it(tmp_path: Path) -> None:
    done = install("agent", "--offline", tmp_path)
    assert 2 == done.returncode
    assert "has no goodspeed-*.whl: python3 -m pip wheel" in done.stderr


def test_it_installs_once_and_leaves_nothing_but_data(
    tmp_path: Path, wheels: Path, from_here: Mapping[str, str]
) -> None:
    options = ("--root", tmp_path, "--offline", wheels)
    done = install("agent", *options, settings=from_here)
    assert 0 == done.returncode, done.stderr
    assert "next: goodspeed-agent init --verifier" in done.stdout
    program = next((tmp_path / "opt/goodspeed-releases").glob("*/bin/goodspeed-agent"))
    shown = subprocess.run(
        [str(program), "config", "show"],
        env=environment(from_here),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "/profiles/" in shown.stdout
    unit = tmp_path / "etc/systemd/system/goodspeed-agent.service"
    assert (ROOT / "devices/systemd/goodspeed-agent.service").read_text() == unit.read_text()

    (tmp_path / "etc/goodspeed/agent.toml").write_text("")
    before, cpu_before = below(tmp_path), children_seconds()
    again = install("agent", *options, settings=from_here)
    assert (0, "goodspeed-agent is up to date\n") == (again.returncode, again.stdout)
    assert children_seconds() - cpu_before < 5, "ten seconds on half a core"
    assert before == below(tmp_path)

    tried = install("agent", "--root", tmp_path, "--uninstall", "--dry-run")
    assert f"would run: rm -rf {tmp_path}/opt/goodspeed " in tried.stdout
    assert before == below(tmp_path)
    (tmp_path / "var/cache/goodspeed").mkdir(parents=True)
    (tmp_path / "var/cache/goodspeed/vocabulary").touch()
    assert 0 == install("agent", "--root", tmp_path, "--uninstall").returncode
    left = {path for path in below(tmp_path) if (tmp_path / path).is_file()}
    assert {"etc/goodspeed/agent.toml"} == left


@pytest.mark.slow
def test_an_upgrade_can_be_taken_back(
    tmp_path: Path, wheels: Path, from_here: Mapping[str, str]
) -> None:
    root, newer = tmp_path / "root", tmp_path / "newer"
    shutil.copytree(wheels, newer)
    (wheel,) = newer.glob("*.whl")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.comment = b"newer"
    current = root / "opt/goodspeed"
    for source in (wheels, newer):
        done = install("agent", "--root", root, "--offline", source, settings=from_here)
        assert 0 == done.returncode, done.stderr
        if source == wheels:
            first = current.readlink()
    second = current.readlink()
    assert first != second
    assert 0 == install("agent", "--root", root, "--rollback").returncode
    assert first == current.readlink()
    assert 0 == install("agent", "--root", root, "--rollback").returncode
    assert second == current.readlink()


@pytest.mark.slow
def test_an_installation_that_fails_changes_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "wheels"
    broken.mkdir()
    (broken / "goodspeed-0.1.0-py3-none-any.whl").write_bytes(b"no wheel")
    root = tmp_path / "root"
    done = install("agent", "--root", root, "--offline", broken)
    assert 0 != done.returncode
    assert not (root / "opt/goodspeed").exists()
    assert [] == list((root / "opt/goodspeed-releases").iterdir())
