"""A session of the terminal client: question and answer until the end of input.

A failed answer must never end it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, aclosing
from typing import TextIO

from edge_agent.chat.client import ChatClient
from edge_agent.chat.conversation import Conversation
from edge_agent.chat.display import ChatDisplay, details
from edge_agent.generation.chat_messages import Text
from shared.daemon.peer_text import terminal_text
from shared.errors import GoodspeedError, RequestRefused

_HELP = """\
/stats   figures of the last answer
/reset   forget the conversation
/help    this page
Ctrl-C stops an answer, Ctrl-D leaves, Alt-Enter begins a new line
plain text was drafted on this board and accepted, underlined text is the target's own"""


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
    while True:
        try:
            line = (await read_line()).strip()
        except EOFError:
            return
        except KeyboardInterrupt:
            display.note("Ctrl-D leaves")
            continue
        match line:
            case "":
                continue
            case "/help":
                display.note(_HELP)
            case "/reset":
                conversation.reset()
                display.note("the conversation is forgotten")
            case "/stats":
                display.note(_stats(conversation))
            case command if command.startswith("/") and " " not in command:
                display.note(f"unknown command {command}, /help shows all")
            case question:
                with interruptible() as stop:
                    await _answer(client, conversation, display, question, stop)


async def _answer(
    client: ChatClient,
    conversation: Conversation,
    display: ChatDisplay,
    question: str,
    stop: asyncio.Event,
) -> None:
    texts: list[str] = []
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
        display.end_with_failure(str(error))


def _stats(conversation: Conversation) -> str:
    if conversation.last_finished is None:
        return "no answer yet"
    return details(conversation.last_finished, conversation.num_answers, conversation.num_tokens)
