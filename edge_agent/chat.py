"""`goodspeed-agent chat`: talk to the target through this board, in a terminal or in a pipe.

It must never show a traceback: what goes wrong is one sentence and exit code 2.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, aclosing
from typing import Any, TextIO

import aiohttp
import click

from edge_agent.chat_client import ChatClient
from edge_agent.chat_display import ChatDisplay, details
from edge_agent.chat_messages import Text
from edge_agent.conversation import Conversation
from shared.errors import GoodspeedError, RequestRefused
from shared.messages import MAX_63_BITS, MAX_DRAFT_TOKENS, MAX_POSITION

_FAILED = 2
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

_HELP = """\
/stats   figures of the last answer
/reset   forget the conversation
/help    this page
Ctrl-C stops an answer, Ctrl-D leaves, Alt-Enter begins a new line
plain text was drafted on this board and accepted, underlined text is the target's own"""

_EXAMPLES = """\b
Examples:
  goodspeed-agent chat
  goodspeed-agent chat --system "Answer in one sentence." --temperature 0
  goodspeed-agent chat --url http://pi5-kitchen:8090 --draft-length 0
  echo "Write a haiku about rain" | goodspeed-agent chat
  goodspeed-agent chat --seed 7 < prompt.txt > answer.txt

\b
--draft-length 0 turns drafting off: compare the speeds that follow each answer.
With one --seed and --mode coupled an answer is the same on every board."""


async def answer_once(
    client: ChatClient, conversation: Conversation, question: str, out: TextIO
) -> None:
    """Answer one question in plain text; a line feed ends it."""
    if not question.strip():
        raise RequestRefused("there is no prompt on standard input")
    last_text = ""
    async with aclosing(client.answer(conversation.request(question), asyncio.Event())) as said:
        async for message in said:
            if isinstance(message, Text):
                last_text = message.text
                out.write(last_text)
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
    model = await client.model()
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
        async with aclosing(client.answer(conversation.request(question), stop)) as said:
            async for message in said:
                if isinstance(message, Text):
                    texts.append(message.text)
                    display.text(message)
                else:
                    conversation.add(question, "".join(texts), message)
                    display.end(message)
    except GoodspeedError as error:
        display.failure(str(error))


def _stats(conversation: Conversation) -> str:
    if conversation.last_finished is None:
        return "no answer yet"
    return details(conversation.last_finished, conversation.num_answers, conversation.num_tokens)


@click.command("chat", epilog=_EXAMPLES)
@click.option(
    "--url", default="http://127.0.0.1:8090", show_default=True, help="Where the agent listens."
)
@click.option("--system", help="System prompt, in front of every conversation.")
@click.option("--temperature", type=click.FloatRange(0, 100), help="0 is greedy; default 1.")
@click.option("--seed", type=click.IntRange(0, MAX_63_BITS), help="Makes answers repeatable.")
@click.option(
    "--max-tokens", type=click.IntRange(1, MAX_POSITION), help="Cut each answer after so many."
)
@click.option(
    "--mode",
    type=click.Choice(["rejection", "coupled"]),
    help="How draft tokens are accepted; default: the verifier chooses.",
)
@click.option(
    "--draft-length",
    type=click.IntRange(0, MAX_DRAFT_TOKENS),
    help="Draft tokens per round, 0 for none; default: the scheduler decides.",
)
@click.option("--plain", is_flag=True, help="No underlines, no colours (as NO_COLOR does).")
@click.option(
    "--api-token",
    envvar="GOODSPEED_API_TOKEN",
    show_envvar=True,
    help="The agent's API token; better in the environment, where `ps` does not show it.",
)
def chat(url: str, api_token: str | None, plain: bool, system: str | None, **options: Any) -> None:
    """Talk to the target model through this board.

    In a terminal it is a conversation: plain text was drafted on the board and accepted, underlined
    text is the target's own.  In a pipe it reads one prompt from standard input until its end and
    writes the answer, nothing else.
    """
    conversation = Conversation(system, _request_fields(options))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a character that it lacks is no reason to fail
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    is_styled = not plain and not os.environ.get("NO_COLOR")
    try:
        if is_terminal:
            asyncio.run(_chat_in_terminal(url, api_token, conversation, is_styled))
        else:
            asyncio.run(_chat_in_pipe(url, api_token, conversation))
    except GoodspeedError as error:
        raise _Failure(str(error)) from error
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


class _Failure(click.ClickException):
    exit_code = _FAILED


def _request_fields(options: dict[str, Any]) -> dict[str, Any]:
    """The given options as fields of a chat request."""
    given = {name: value for name, value in options.items() if value is not None}
    extension = {
        field: given.pop(option)
        for option, field in (("mode", "acceptance_mode"), ("draft_length", "draft_length"))
        if option in given
    }
    return given | ({"goodspeed": extension} if extension else {})


async def _chat_in_pipe(url: str, api_token: str | None, conversation: Conversation) -> None:
    question = sys.stdin.buffer.read().decode(errors="replace")
    async with aiohttp.ClientSession() as http:
        await answer_once(ChatClient(http, url, api_token), conversation, question, sys.stdout)


async def _chat_in_terminal(
    url: str, api_token: str | None, conversation: Conversation, is_styled: bool
) -> None:
    # Late: a pipe needs neither, and on a board prompt_toolkit takes long to import.
    from edge_agent.line_editor import interruptible, line_reader

    async with aiohttp.ClientSession() as http:
        await converse(
            ChatClient(http, url, api_token),
            conversation,
            ChatDisplay(
                sys.stdout,
                is_styled=is_styled,
                width=lambda: shutil.get_terminal_size().columns,
            ),
            line_reader(is_styled=is_styled),
            interruptible,
        )
