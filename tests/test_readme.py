"""README keeps its word: paths, commands, settings, defaults and links are as it says."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path

import click
import msgspec
import pytest

import edge_agent.cli
import verifier.cli
from edge_agent.config import AgentConfig
from shared.config.sections import load_config
from tests.support.documents.markdown import (
    commands,
    links,
    paths,
    ports,
    sections,
    settings,
    stated_defaults,
    tree_lines,
    values_by_default,
)
from verifier.config import VerifierConfig

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TREE = tree_lines(README, "Files")
COMMANDS = commands(README)
PACKAGES = ("edge_agent", "verifier", "shared")
PROGRAMS = {"goodspeed-agent": edge_agent.cli.main, "goodspeed-verifier": verifier.cli.main}
CONFIGS: tuple[type[msgspec.Struct], ...] = (VerifierConfig, AgentConfig)


def wings() -> set[str]:
    """The folders of code that README must name."""
    folders = {file.parent for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    own_tests = {file.parent for file in (ROOT / "tests").glob("*/**/*.py")}
    tops = {ROOT / "tests" / folder.relative_to(ROOT / "tests").parts[0] for folder in own_tests}
    mirrors = {ROOT / "tests" / package for package in PACKAGES}
    named = folders | (tops - mirrors) | {ROOT / "tests", ROOT / "devices", ROOT / "docs"}
    return {f"{folder.relative_to(ROOT)}/" for folder in named}


def configured(key: str) -> list[object]:
    """The defaults of "section.key" in both programs; none where there is no such setting."""
    section, _, name = key.partition(".")
    owners = [getattr(config(), section) for config in CONFIGS if hasattr(config(), section)]
    return [getattr(owner, name) for owner in owners if hasattr(owner, name)]


def defaults() -> set[str]:
    return {
        str(value)
        for config in CONFIGS
        for section in msgspec.structs.astuple(config())
        for value in msgspec.structs.astuple(section)
    }


def parsed(command: click.Command, words: list[str]) -> dict[str, object]:
    """The options that the innermost command is given; fails where one is not known."""
    context = click.Context(command, help_option_names=["-h", "--help"])
    options, rest, _ = command.make_parser(context).parse_args(words)
    if isinstance(command, click.Group) and rest:
        inner = command.get_command(context, rest[0])
        assert inner is not None, f"{command.name} has no {rest[0]}"
        return parsed(inner, rest[1:])
    return dict(options)


def module_file(name: str) -> Path:
    path = ROOT.joinpath(*name.split("."))
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def commands_of(*first: str) -> list[list[str]]:
    """The words after these, of every command that starts with them; there is one at least."""
    found = [words[len(first) :] for words in COMMANDS if words[: len(first)] == [*first]]
    assert found
    return found


def test_every_path_of_the_tree_exists() -> None:
    assert [] == [line.path for line in TREE if not (ROOT / line.path).exists()]


def test_every_wing_has_one_line_of_the_tree() -> None:
    assert dict.fromkeys(wings(), 1) == dict(Counter(line.path for line in TREE))


def test_every_line_of_the_tree_says_something() -> None:
    assert [] == [line.path for line in TREE if not line.half_line]


def test_the_line_of_support_names_its_rooms() -> None:
    (line,) = (line for line in TREE if line.path == "tests/support/")
    rooms = {file.parent.name for file in (ROOT / "tests/support").glob("*/*.py")}
    assert rooms == set(line.half_line.split(", "))


def test_every_link_and_path_leads_to_a_file() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    named = {*links(README), *paths(README, folders)}
    assert named
    assert set() == {name for name in named if not (ROOT / name).exists()}


def test_every_target_of_make_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert set() == {target for target, *_ in commands_of("make")} - targets


def test_every_module_is_there_and_knows_its_options() -> None:
    for module, *words in commands_of("python", "-m"):
        text = module_file(module).read_text(encoding="utf-8")
        options = [word for word in words if word.startswith("-")]
        assert [] == [option for option in options if f'"{option}"' not in text], module


def test_every_test_that_is_named_is_there() -> None:
    named = [path for words in commands_of("pytest") for path in words]
    assert [] == [path for path in named if not (ROOT / path).is_file()]


def test_every_extra_can_be_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for (what,) in commands_of("pip", "install"):
        extras = re.fullmatch(r"\.\[(.+)\]", what)
        assert extras, what
        assert set(extras[1].split(",")) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_is_known_with_its_options_and_settings(program: str) -> None:
    for words in commands_of(program):
        assignments = parsed(PROGRAMS[program], words).get("assignments") or []
        assert isinstance(assignments, list)
        for assignment in assignments:
            assert configured(assignment.partition("=")[0]), assignment


@pytest.mark.parametrize("wrong", [["rum"], ["run", "--sett", "a.b=c"], ["token", "ad", "kitchen"]])
def test_a_command_that_is_misspelt_is_noticed(wrong: list[str]) -> None:
    with pytest.raises((AssertionError, click.NoSuchOption)):
        parsed(verifier.cli.main, wrong)


def test_every_setting_is_there_and_takes_the_value() -> None:
    quoted = settings(README)
    assert quoted
    for key, value in quoted:
        assert configured(key), key
        if value is not None:
            owner = next(config for config in CONFIGS if hasattr(config(), key.partition(".")[0]))
            load_config(owner, overrides={key: tomllib.loads(f"value = {value}")["value"]})


def test_every_section_is_there() -> None:
    known = {field.name for config in CONFIGS for field in msgspec.structs.fields(config)}
    assert set(sections(README)) <= known


def test_every_default_is_the_one_in_the_configuration() -> None:
    stated = stated_defaults(README)
    assert stated
    for key, value in stated:
        try:
            expected: object = float(value)
        except ValueError:
            expected = value
        assert expected in configured(key), key


def test_every_value_by_default_is_one() -> None:
    assert set(values_by_default(README)) <= defaults()


def test_every_port_is_one_by_default() -> None:
    assert ports(README) <= {VerifierConfig().server.port, AgentConfig().api.port}
