"""The keyboard of the terminal chat; the only file that imports prompt_toolkit.

What is typed stays in memory: prompts are never written to a history file.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import termios
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

ReadLine = Callable[[], Awaitable[str]]


def line_reader(*, is_styled: bool) -> ReadLine:
    """Asks for a line, with editing and history; Ctrl-D is EOFError, Ctrl-C KeyboardInterrupt."""
    keys = KeyBindings()

    @keys.add("escape", "enter")
    def insert_line_feed(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    def leave_line(event: KeyPressEvent) -> None:
        """What was typed is not lost: the arrow up brings it back."""
        event.current_buffer.append_to_history()
        event.app.exit(exception=KeyboardInterrupt)

    session: PromptSession[str] = PromptSession(history=InMemoryHistory(), key_bindings=keys)
    prompt = FormattedText([("bold" if is_styled else "", "> ")])

    async def read_line() -> str:
        return await session.prompt_async(prompt, prompt_continuation="  ")

    return read_line


@contextmanager
def interruptible() -> Iterator[asyncio.Event]:
    """While an answer comes: Ctrl-C sets the event, and typed keys are not shown amid the text."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    quiet = termios.tcgetattr(keyboard)
    quiet[3] &= ~termios.ECHO
    loop.add_signal_handler(signal.SIGINT, interrupted.set)
    termios.tcsetattr(keyboard, termios.TCSADRAIN, quiet)
    try:
        yield interrupted
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        loop.remove_signal_handler(signal.SIGINT)
