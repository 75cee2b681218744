"""A session of the terminal client: question and answer until the end of input.

A failed answer must never end it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, aclosing
from typing import TextIO

from edge_agent.chat.attached_files import read_mentions, with_files
from edge_agent.chat.client import ChatClient
from edge_agent.chat.conversation import Conversation
from edge_agent.chat.display import ChatDisplay
from edge_agent.chat.slash_commands import SlashCommands, read_command
from edge_agent.generation.chat_messages import Text
from shared.daemon.peer_text import terminal_text
from shared.errors import GoodspeedError, RequestRefused


async def answer_once(
    client: ChatClient, conversation: Conversation, question: str, out: TextIO
) -> None:
    """Answer one question in plain text; a line feed ends it.

    A file gets the answer as it is, a terminal without what would drive it.
    """
    if not question.strip():
        raise RequestRefused("there is no prompt on standard input")
    last_text = ""
    async with aclosing(client.answer(conversation.request(question), asyncio.Event())) as messages:
        async for message in messages:
            if isinstance(message, Text):
                last_text = message.text
                out.write(terminal_text(last_text) if out.isatty() else last_text)
                out.flush()
    if not last_text.endswith("\n"):
        out.write("\n")


async def converse(
    client: ChatClient,
    conversation: Conversation,
    display: ChatDisplay,
    read_line: Callable[[], Awaitable[str]],
    interruptible: Callable[[], AbstractContextManager[asyncio.Event]],
) -> None:
    """Question and answer until the end of input; a failed answer does not end the session."""
    model = await client.fetch_model()
    named = model or "no verifier right now"
    display.note(f"{named} at {client.address} · /help shows commands, Ctrl-D leaves")
    commands = SlashCommands(conversation, model)
    while True:
        try:
            line = (await read_line()).strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            display.note("Ctrl-D leaves, the arrow up brings back what was typed")
            continue
        if not line:
            continue
        try:
            question = _question_of(line, conversation, commands, display)
        except GoodspeedError as error:
            display.end_with_failure(str(error))
            continue
        if question is not None:
            with interruptible() as stop:
                await _answer(client, conversation, display, question, stop)


def _question_of(
    line: str, conversation: Conversation, commands: SlashCommands, display: ChatDisplay
) -> str | None:
    """What a line asks, with its files; None: it was a command."""
    command = read_command(line)
    if command is None:
        mentions = read_mentions(line)
        for name in mentions.unknown:
            display.note(f"{name} names no file here, and goes as text")
        return with_files(line, (*commands.take_files(), *mentions.files))
    if command.name != "/retry":
        display.note(commands.run(command))
        return None
    question = conversation.begin_again()
    if question is None:
        raise RequestRefused("there is no question to ask again")
    return question


async def _answer(
    client: ChatClient,
    conversation: Conversation,
    display: ChatDisplay,
    question: str,
    stop: asyncio.Event,
) -> None:
    texts: list[str] = []
    conversation.begin(question)
    try:
        async with aclosing(client.answer(conversation.request(question), stop)) as messages:
            async for message in messages:
                if isinstance(message, Text):
                    texts.append(message.text)
                    display.write_text(message)
                else:
                    conversation.add(question, "".join(texts), message)
                    display.end(message)
    except GoodspeedError as error:
        conversation.fail()
        display.end_with_failure(str(error))
