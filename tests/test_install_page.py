"""docs/install.md keeps its word: commands, options, settings, files and links are as it says."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

import edge_agent.cli
import verifier.cli
from edge_agent.commands.settings import SETTINGS as AGENT_SETTINGS
from edge_agent.config import AgentConfig
from tests.support.documents.known_commands import check_known
from tests.support.documents.markdown import commands, links, settings
from tests.support.programs.command import ROOT
from verifier.commands.settings import SETTINGS as VERIFIER_SETTINGS
from verifier.config import VerifierConfig

PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
SCRIPT = (ROOT / "devices" / "install.sh").read_text(encoding="utf-8")
PROGRAMS: dict[str, click.Group] = {
    "goodspeed-agent": edge_agent.cli.main,
    "goodspeed-verifier": verifier.cli.main,
}


def test_each_machine_takes_five_commands() -> None:
    assert [5, 5] == [len(block.splitlines()) for block in BLOCKS]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_is_known_with_its_options(program: str) -> None:
    said = [words[1:] for words in commands(PAGE) if words[0] == program]
    assert said
    for words in said:
        check_known(PROGRAMS[program], words)


def test_every_option_of_the_script_is_one() -> None:
    lines = [line for line in PAGE.splitlines() if "install.sh" in line or line.startswith("- `--")]
    options = set(re.findall(r"(--[a-z-]+)", " ".join(lines))) - {"--token", "--verifier", "--now"}
    assert {"--python", "--rollback", "--dry-run", "--uninstall"} <= options
    assert set() == {option for option in options if f"  {option}" not in SCRIPT}


def test_every_unit_that_is_named_is_there() -> None:
    units = {path.name for path in (ROOT / "devices/systemd").iterdir()}
    named = set(re.findall(r"systemctl [a-z]+ (?:--now )?(goodspeed-[a-z.]+[a-z])", PAGE))
    assert {"goodspeed-agent", "goodspeed-verifier", "goodspeed-verifier.socket"} == named
    assert set() == {name for name in named if not {name, f"{name}.service"} & units}


def test_the_files_are_those_of_the_programs() -> None:
    for file in (
        AGENT_SETTINGS.default_file,
        VERIFIER_SETTINGS.default_file,
        VerifierConfig().server.tokens_file,
    ):
        assert f"`{file}`" in PAGE


def test_every_setting_is_there() -> None:
    for key, _ in settings(PAGE):
        section, _, name = key.partition(".")
        sections = [getattr(config, section, None) for config in (VerifierConfig(), AgentConfig())]
        assert any(hasattr(one, name) for one in sections), key


def test_every_link_leads_somewhere() -> None:
    named = links(PAGE)
    assert named
    assert [] == [name for name in named if not Path(ROOT / "docs" / name).exists()]
