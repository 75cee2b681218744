"""Whether what a page or a file tells to type is a command of ours, with options that it knows."""

from __future__ import annotations

from collections.abc import Sequence

import click


def check_known(command: click.Command, words: Sequence[str]) -> None:
    """The words that follow a command on its line.

    Raises:
        AssertionError, click.UsageError: a command or an option of them is not known.
    """
    context = click.Context(command)
    _, rest, _ = command.make_parser(context).parse_args(list(words))
    if isinstance(command, click.Group) and rest:
        inner = command.get_command(context, rest[0])
        assert inner is not None, f"{command.name} has no {rest[0]}"
        check_known(inner, rest[1:])
