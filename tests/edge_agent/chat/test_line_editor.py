"""Keys as a terminal sends them, through prompt_toolkit's own pipe."""

from __future__ import annotations

import asyncio

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from edge_agent.chat.line_editor import line_reader

PASTE = "\x1b[200~{}\x1b[201~"
UP = "\x1b[A"


def lines_of(*typed: str) -> list[str]:
    """What is read of each; Ctrl-C and Ctrl-D by their names."""

    async def scenario() -> list[str]:
        lines = []
        with create_pipe_input() as keyboard, create_app_session(keyboard, DummyOutput()):
            read_line = line_reader(is_styled=False)
            for keys in typed:
                keyboard.send_text(keys)
                try:
                    async with asyncio.timeout(20):
                        lines.append(await read_line())
                except (KeyboardInterrupt, EOFError) as error:
                    lines.append(type(error).__name__)
        return lines

    return asyncio.run(scenario())


def test_a_paste_of_many_lines_is_one_question() -> None:
    text = "\n".join(f"line {number}" for number in range(2000))
    assert [f"see {text}"] == lines_of("see " + PASTE.format(text) + "\r")


def test_alt_enter_begins_a_line() -> None:
    assert ["a\nb"] == lines_of("a\x1b\rb\r")


def test_what_was_typed_before_ctrl_c_comes_back() -> None:
    assert ["KeyboardInterrupt", "half typed"] == lines_of("half typed\x03", UP + "\r")


@pytest.mark.parametrize(("key", "name"), [("\x03", "KeyboardInterrupt"), ("\x04", "EOFError")])
def test_keys_that_leave(key: str, name: str) -> None:
    assert [name] == lines_of(key)
