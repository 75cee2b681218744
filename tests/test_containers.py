"""The container files: what they copy is there, what they name is ours. No image is built here."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import edge_agent.cli
import verifier.cli
from edge_agent.commands.settings import SETTINGS as AGENT_SETTINGS
from shared.config.model_files import INSTALLED_MODELS
from tests.support.documents.known_commands import check_known
from tests.support.programs.command import ROOT
from verifier.commands.settings import SETTINGS as VERIFIER_SETTINGS

FILES = {
    "goodspeed-agent": ROOT / "devices/containers/agent.Containerfile",
    "goodspeed-verifier": ROOT / "devices/containers/verifier.Containerfile",
}
PROGRAMS: dict[str, click.Group] = {
    "goodspeed-agent": edge_agent.cli.main,
    "goodspeed-verifier": verifier.cli.main,
}
PORTS = {
    "goodspeed-agent": AGENT_SETTINGS.config_type().api.port,
    "goodspeed-verifier": VERIFIER_SETTINGS.config_type().server.port,
}
INSTRUCTIONS = {
    *("ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "VOLUME", "EXPOSE"),
    *("ENTRYPOINT", "CMD"),
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

pytestmark = pytest.mark.parametrize("program", FILES)


def instructions(program: str) -> Iterator[tuple[str, str]]:
    """Each instruction with its words on one line."""
    text = FILES[program].read_text(encoding="utf-8")
    bare = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for line in bare.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield name, " ".join(rest.split())


def words_of(program: str, wanted: str) -> list[str]:
    return [rest for name, rest in instructions(program) if name == wanted]


def test_every_instruction_is_known(program: str) -> None:
    assert {name for name, _ in instructions(program)} <= INSTRUCTIONS
    assert instructions(program).__next__()[0] == "ARG"


def test_what_is_copied_is_in_the_tree_or_in_a_stage(program: str) -> None:
    stages = {m[1] for rest in words_of(program, "FROM") if (m := re.search(r" AS (\w+)$", rest))}
    copied = set()
    for rest in words_of(program, "COPY"):
        *sources, _target = rest.split()
        if sources[0].startswith("--from="):
            assert sources[0].removeprefix("--from=") in stages
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            copied.add(source)
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    wheel = tools["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], "pyproject.toml"}
    assert needed | {PROJECT["readme"], *PROJECT["license-files"]} <= copied


def test_the_builder_is_sent_what_is_copied_and_no_more(program: str) -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source
        for rest in words_of(program, "COPY")
        if not rest.startswith("--from=")
        for source in rest.split()[:-1]
    }
    assert "*" in lines
    assert copied <= sent
    assert sent <= {
        source for name in FILES for rest in words_of(name, "COPY") for source in rest.split()[:-1]
    }


def test_it_starts_a_program_of_ours_with_options_that_it_knows(program: str) -> None:
    (entry,) = (json.loads(rest) for rest in words_of(program, "ENTRYPOINT"))
    (command, *options) = json.loads(words_of(program, "CMD")[0])
    assert [program] == entry
    assert program in PROJECT["scripts"]
    group = PROGRAMS[program]
    known = group.get_command(click.Context(group), command)
    assert known is not None
    parsed, _, _ = known.make_parser(click.Context(known)).parse_args(list(options))
    source = AGENT_SETTINGS if program == "goodspeed-agent" else VERIFIER_SETTINGS
    source.load(None, parsed.get("assignments") or ())  # every key is one, every value right


def test_the_commands_at_its_top_are_known(program: str) -> None:
    told = re.findall(
        r"^#   (\w.* goodspeed-\w+ [a-z].*)$", FILES[program].read_text(), re.MULTILINE
    )
    assert told
    for line in told:
        entry = re.search(r"--entrypoint (goodspeed-\w+) ", line)
        image, command = re.findall(
            r"(goodspeed-\w+) ([a-z].*)$", line.replace(entry[0] if entry else "", "")
        )[0]
        check_known(PROGRAMS[entry[1] if entry else image], command.split())


def test_the_extras_and_classes_that_it_installs_are_known(program: str) -> None:
    text = FILES[program].read_text(encoding="utf-8")
    extras = set(re.findall(r"'\.\[([\w,]+)\]'", text)) | set(re.findall(r"EXTRAS=([\w,]+)", text))
    named = {extra for group in extras for extra in group.split(",")}
    assert named
    assert named <= PROJECT["optional-dependencies"].keys()
    script = ROOT / "devices/wheels/build.sh"
    for board in re.findall(r"BOARD=(\w+)", text):
        told = subprocess.run(["sh", script, board, "--dry-run"], capture_output=True, check=False)
        assert 0 == told.returncode, board


def test_port_user_and_places_are_those_of_the_services(program: str) -> None:
    assert [str(PORTS[program])] == words_of(program, "EXPOSE")
    (user,) = words_of(program, "USER")
    assert any("useradd --system" in run and run.endswith(user) for run in words_of(program, "RUN"))
    (variables,) = (
        dict(word.split("=", 1) for word in rest.split()) for rest in words_of(program, "ENV")
    )
    assert str(INSTALLED_MODELS) == variables["GOODSPEED_MODEL_DIR"]
    assert "1" == variables["PYTHONSAFEPATH"]
    (volume,) = words_of(program, "VOLUME")
    assert Path(volume) in INSTALLED_MODELS.parents


def test_shell_of_its_steps_is_shell(program: str) -> None:
    for step in words_of(program, "RUN"):
        assert 0 == subprocess.run(["sh", "-n", "-c", step], check=False).returncode
