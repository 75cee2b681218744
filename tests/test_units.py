"""The systemd units: correct, hardened, and about programs and paths that are there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest

import edge_agent.cli
import verifier.cli
from shared.config.model_files import INSTALLED_MODELS
from tests.support.models.tiny_gguf import write_tiny_llama
from tests.support.programs.command import ROOT, environment

UNITS = ROOT / "devices" / "systemd"
PROGRAMS: dict[str, click.Group] = {
    "goodspeed-agent": edge_agent.cli.main,
    "goodspeed-verifier": verifier.cli.main,
}
SERVICES = {
    "goodspeed-agent": "goodspeed-agent",
    "goodspeed-verifier": "goodspeed-verifier",
    "goodspeed-worker": "goodspeed-verifier",
}
JETSON = "10-jetson.conf"
EXPOSURE = re.compile(r"Overall exposure level for \S+: ([\d.]+)")
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def analyze(*arguments: object) -> tuple[int, str]:
    words = ["systemd-analyze", *(str(argument) for argument in arguments)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stdout + ended.stderr


def copied(name: str, directory: Path, *drop_ins: str) -> Path:
    """The unit with these drop-ins alone; its programs need not be installed."""
    text = (UNITS / name).read_text()
    (directory / name).write_text(re.sub(r"^Exec(\w+)=.*", r"Exec\1=/bin/true", text, flags=re.M))
    for drop_in in drop_ins:
        (directory / f"{name}.d").mkdir(exist_ok=True)
        effective = drop_in.removesuffix(".example")
        shutil.copy(UNITS / f"{name}.d" / drop_in, directory / f"{name}.d" / effective)
    return directory / name


CASES = [
    ("goodspeed-agent.service", (), 1.5),
    ("goodspeed-agent.service", (JETSON,), 2.0),
    ("goodspeed-verifier.service", (), 2.0),
    ("goodspeed-verifier.service", ("20-devices.conf.example",), 2.0),
    ("goodspeed-worker.service", (), 2.0),
    ("goodspeed-ray.service", (), 2.0),
]


@needs_systemd
@pytest.mark.parametrize(("name", "drop_ins", "limit"), CASES)
def test_a_unit_is_correct_and_little_exposed(
    tmp_path: Path, name: str, drop_ins: tuple[str, ...], limit: float
) -> None:
    unit = copied(name, tmp_path, *drop_ins)
    assert (0, "") == analyze("verify", "--man=no", "--recursive-errors=no", unit)
    _, said = analyze("security", "--offline=true", "--no-pager", unit)
    exposure = EXPOSURE.search(said)
    assert exposure is not None, said
    assert float(exposure[1]) <= limit


@needs_systemd
def test_the_socket_is_correct(tmp_path: Path) -> None:
    copied("goodspeed-verifier.service", tmp_path)
    unit = copied("goodspeed-verifier.socket", tmp_path)
    assert (0, "") == analyze("verify", "--man=no", "--recursive-errors=no", unit)


@needs_systemd
@pytest.mark.parametrize("wrong", ["ProtectSystm=strict", "WatchdogSec=often"])
def test_a_unit_that_is_wrong_is_noticed(tmp_path: Path, wrong: str) -> None:
    unit = copied("goodspeed-agent.service", tmp_path)
    unit.write_text(unit.read_text().replace("[Service]", f"[Service]\n{wrong}"))
    _, said = analyze("verify", "--man=no", "--recursive-errors=no", unit)
    assert said


@pytest.mark.parametrize(("service", "program"), SERVICES.items())
def test_what_a_unit_starts_is_a_program_of_ours_with_options_that_it_knows(
    service: str, program: str
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (UNITS / f"{service}.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.*)", text, re.MULTILINE)
    path, command, *options = shlex.split(line)
    assert f"/opt/goodspeed/bin/{program}" == path
    assert program in project["scripts"]
    group = PROGRAMS[program]
    known = group.get_command(click.Context(group), command)
    assert known is not None
    known.make_parser(click.Context(known)).parse_args(options)


@pytest.mark.parametrize("service", SERVICES)
def test_a_unit_sets_what_the_programs_read(service: str) -> None:
    text = (UNITS / f"{service}.service").read_text()
    assert f"GOODSPEED_MODEL_DIR={INSTALLED_MODELS}" in text
    assert f"d {INSTALLED_MODELS} " in (UNITS / "tmpfiles.d" / "goodspeed.conf").read_text()
    assert "Type=notify\n" in text
    assert "RestartPreventExitStatus=78\n" in text


def test_a_killed_worker_of_its_own_does_not_end_the_verifier_and_what_is_killed_restarts() -> None:
    """systemd.service(5): `stop` ends the whole unit where the kernel kills one of its processes.

    A main process that is killed has failed whatever the policy: Restart= starts it again.
    """
    for service in SERVICES:
        lines = (UNITS / f"{service}.service").read_text().splitlines()
        assert {"Restart=always", "StartLimitIntervalSec=0"} <= set(lines)
    assert "OOMPolicy=continue" in (UNITS / "goodspeed-verifier.service").read_text()


def test_a_worker_may_do_no_more_than_its_verifier_and_no_more_where_ray_places_it() -> None:
    """All run the same target; what keeps it in is the same, line for line."""
    hardened = {
        (UNITS / f"goodspeed-{name}.service").read_text().partition("CapabilityBoundingSet=")[2]
        for name in ("verifier", "worker", "ray")
    }
    assert 1 == len(hardened)


def test_the_unit_of_ray_is_what_the_guide_tells_and_the_verifier_finds_its_files() -> None:
    text = (UNITS / "goodspeed-ray.service").read_text()
    guide = (ROOT / "docs" / "workers.md").read_text()
    told = re.findall(r"RAY_\w+=\S+", re.findall(r"^export (.*)", guide, re.MULTILINE)[0])
    assert len(told) == 5
    given = set(re.findall(r"RAY_\w+=\S+", " ".join(re.findall("^Environment=.*", text, re.M))))
    assert {line for line in told if "TOKEN_PATH" not in line} <= given
    assert "RAY_AUTH_TOKEN_PATH=/etc/goodspeed/credentials/ray" in given
    units = text, (UNITS / "goodspeed-verifier.service").read_text()
    assert all({"PrivateTmp=yes", "User=goodspeed"} <= set(u.splitlines()) for u in units)
    assert "JoinsNamespaceOf=goodspeed-ray.service" in units[1].splitlines()


def test_every_group_that_a_unit_names_is_made_where_it_is_missing() -> None:
    """A minimal Debian 12 has no `render`, and the verifier's unit ended there with 216/GROUP."""
    made = (UNITS / "sysusers.d" / "goodspeed.conf").read_text()
    units = [*UNITS.glob("*.service"), *UNITS.glob("*.service.d/*")]
    named = re.findall(r"^SupplementaryGroups=(.+)", "".join(u.read_text() for u in units), re.M)
    assert {"video", "render"} == set(" ".join(named).split())
    for group in set(" ".join(named).split()):
        assert re.search(rf"^g {group} -$", made, re.MULTILINE), group


# The agent's unit forbids memory that is written and executed; PR_SET_MDWE is how Linux says it.
_COMPUTES_WITHOUT_WRITABLE_CODE = """
import ctypes, pathlib, sys
if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0):
    sys.exit(77)
import mmap
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC | mmap.PROT_READ)
    sys.exit("memory may be written and executed")
except PermissionError:
    pass
import aiohttp, msgspec, uvloop
from edge_agent.draft_model.drafter import Forward
from edge_agent.draft_model.llama_drafter import LlamaDrafter
drafter = LlamaDrafter(
    pathlib.Path(sys.argv[1]), num_slots=1, context_tokens=128, threads=1, batch_threads=1,
    gpu_layers=0,
)
assert drafter.forward([Forward(0, (1, 2, 3))])[0] is not None
drafter.close()
"""


def test_a_draft_model_runs_where_no_memory_is_written_and_executed(tmp_path: Path) -> None:
    model = tmp_path / "tiny.gguf"
    write_tiny_llama(model)
    ended = subprocess.run(
        [sys.executable, "-c", _COMPUTES_WITHOUT_WRITABLE_CODE, str(model)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if ended.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert 0 == ended.returncode, ended.stderr
