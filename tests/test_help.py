"""Every command of both programs has a help that says what each of its options is for."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

import edge_agent.cli
import verifier.cli

WIDEST_LINE = 100
Path = tuple[str, ...]


def commands_of(group: click.Command, path: Path = ()) -> Iterator[tuple[Path, click.Command]]:
    yield path, group
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield from commands_of(command, (*path, name))


@pytest.mark.parametrize("program", [edge_agent.cli.main, verifier.cli.main])
def test_every_option_says_what_it_is_for_and_every_line_fits(program: click.Group) -> None:
    wrong: list[object] = []
    for path, command in commands_of(program):
        shown = CliRunner().invoke(program, [*path, "--help"])
        assert 0 == shown.exit_code, path
        wrong += [(path, line) for line in shown.output.splitlines() if len(line) > WIDEST_LINE]
        options = [one for one in command.params if isinstance(one, click.Option)]
        wrong += [(path, one.name) for one in options if not one.help and not one.hidden]
    assert [] == wrong
