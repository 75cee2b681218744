"""`goodspeed-agent chat`: talk to the target through this board, in a terminal or in a pipe.

It must never show a traceback: what goes wrong is one sentence and exit code 2.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import ssl
import sys
from pathlib import Path
from typing import get_args

import aiohttp
import click

from edge_agent.chat.client import ChatClient
from edge_agent.chat.conversation import Conversation
from edge_agent.chat.display import ChatDisplay
from edge_agent.chat.session import answer_once, converse
from edge_agent.link.verifier_trust import VerifierTrust, client_context
from shared.config.secrets import is_one_word
from shared.daemon.command_line import EXIT_ERROR
from shared.daemon.lifecycle import EXIT_INTERRUPTED
from shared.daemon.peer_text import terminal_text
from shared.errors import GoodspeedError
from shared.protocol.messages import MAX_63_BITS, MAX_DRAFT_TOKENS, MAX_POSITION, AcceptanceMode

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


@click.command("chat", epilog=_EXAMPLES)
@click.option(
    "--url", default="http://127.0.0.1:8090", show_default=True, help="Where the agent listens."
)
@click.option(
    "--ca",
    "ca_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Of an agent with https://: PEM file with its certificate or its authority's.",
)
@click.option("--system", help="System prompt, in front of every conversation.")
@click.option("--temperature", type=click.FloatRange(0, 100), help="0 is greedy; default 1.")
@click.option("--seed", type=click.IntRange(0, MAX_63_BITS), help="Makes answers repeatable.")
@click.option(
    "--max-tokens", type=click.IntRange(1, MAX_POSITION), help="Cut each answer after so many."
)
@click.option(
    "--mode",
    type=click.Choice(get_args(AcceptanceMode)),
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
def chat(
    url: str,
    ca_file: Path | None,
    system: str | None,
    temperature: float | None,
    seed: int | None,
    max_tokens: int | None,
    mode: AcceptanceMode | None,
    draft_length: int | None,
    plain: bool,
    api_token: str | None,
) -> None:
    """Talk to the target model through this board.

    In a terminal it is a conversation: plain text was drafted on the board and accepted, underlined
    text is the target's own. In a pipe it reads one prompt from standard input until its end and
    writes the answer, nothing else.
    """
    api_token = (api_token or "").strip() or None
    if api_token is not None and not is_one_word(api_token):
        raise click.BadParameter("must be one word of ASCII characters", param_hint="--api-token")
    settings = _given(temperature=temperature, seed=seed, max_tokens=max_tokens)
    extension = _given(acceptance_mode=mode, draft_length=draft_length)
    if extension:
        settings["goodspeed"] = extension
    conversation = Conversation(system, settings)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a character that it lacks is no reason to fail
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    is_styled = not plain and not os.environ.get("NO_COLOR")
    tls = True if ca_file is None else client_context(VerifierTrust(ca_file))
    try:
        if is_terminal:
            asyncio.run(_chat_in_terminal(url, api_token, tls, conversation, is_styled))
        else:
            asyncio.run(_chat_in_pipe(url, api_token, tls, conversation))
    except GoodspeedError as error:
        raise _Failure(terminal_text(str(error))) from error
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


class _Failure(click.ClickException):
    exit_code = EXIT_ERROR


def _given(**fields: object) -> dict[str, object]:
    """The fields of a chat request that were asked for; the agent decides the others."""
    return {name: value for name, value in fields.items() if value is not None}


async def _chat_in_pipe(
    url: str, api_token: str | None, tls: ssl.SSLContext | bool, conversation: Conversation
) -> None:
    question = sys.stdin.buffer.read().decode(errors="replace")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as http:
        await answer_once(ChatClient(http, url, api_token), conversation, question, sys.stdout)


async def _chat_in_terminal(
    url: str,
    api_token: str | None,
    tls: ssl.SSLContext | bool,
    conversation: Conversation,
    is_styled: bool,
) -> None:
    # Late: a pipe needs neither, and on a board prompt_toolkit takes long to import.
    from edge_agent.chat.line_editor import interruptible, line_reader

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as http:
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
