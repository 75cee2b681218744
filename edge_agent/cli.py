"""`goodspeed-agent`: run the agent, chat, get models, look at settings."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_agent import __version__
from edge_agent.chat import chat
from edge_agent.config import AgentConfig, ApiSection
from edge_agent.draft_step import DraftSettings
from edge_agent.drafter import Drafter, Forward
from edge_agent.fleet_command import fleet
from edge_agent.model_commands import model
from edge_agent.model_free import ModelFreeDrafter
from edge_agent.models import resolve
from shared.command_line import (
    FriendlyGroup,
    config_commands,
    set_up_logging,
    settings_options,
)
from shared.config import Loaded
from shared.cpu_threads import limit_spinning
from shared.credentials import TOKEN_PATTERN, read_secret_file
from shared.errors import ConfigError
from shared.model_files import default_cache_dir

if TYPE_CHECKING:
    from edge_agent.agent import Agent

logger = logging.getLogger(__name__)

# Prompts are read in pieces of this many tokens, so that other streams' drafts wait little.
PREFILL_CHUNK_TOKENS = 64
# Tokens drafted at start to tell the verifier how fast this board is.
SPEED_TEST_TOKENS = 8


_FIRST_STEPS = """\b
First steps:
  goodspeed-agent model pull smollm2-135m-instruct
  goodspeed-agent run --set verifier.url=ws://HOST:8443 --set verifier.token_file=token
  goodspeed-agent chat
  goodspeed-agent run --set draft.model= …     # without a model: n-grams draft alone
  goodspeed-agent config init > agent.toml     # every setting explained
"""


@click.group(
    cls=FriendlyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_FIRST_STEPS,
)
@click.version_option(__version__)
def main() -> None:
    """Draft on this board, let a verifier check, serve chats and an OpenAI API."""


@main.command()
@settings_options(AgentConfig)
def run(loaded: Loaded[AgentConfig]) -> None:
    """Load the draft model, connect to the verifier, serve until SIGINT or SIGTERM."""
    config = loaded.config
    set_up_logging(config.log.level)
    token = _token(config)
    api_token = _api_token(config.api)
    import uvloop

    drafter = _load_drafter(config) if config.draft.model else _model_free(config, token)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(config, drafter, token, api_token))
    finally:
        drafter.close()


async def _serve(config: AgentConfig, drafter: Drafter, token: str, api_token: str | None) -> None:
    from edge_agent.agent import Agent
    from edge_agent.api import build_app, build_runner, listen
    from edge_agent.api_guard import LOOPBACK_HOSTS

    agent = Agent(
        drafter,
        _draft_settings(config, drafter),
        url=config.verifier.url,
        token=token,
        draft_token_seconds=_draft_token_seconds(drafter) if config.draft.model else 0.0,
    )
    hosts = LOOPBACK_HOSTS if api_token is None else None
    runner = build_runner(build_app(agent, api_token=api_token, allowed_hosts=hosts))
    await runner.setup()
    listener: asyncio.Server | None = None
    try:
        listener = await listen(runner, config.api.host, config.api.port)
        host, port = listener.sockets[0].getsockname()[:2]
        logger.info("drafting with %s, serving http://%s:%d", drafter.model_name, host, port)
        await _until_stopped(agent)
    finally:
        if listener is not None:
            listener.close()
        await runner.cleanup()
    logger.info("stopped")


async def _until_stopped(agent: Agent) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    running = asyncio.create_task(agent.run(), name="agent")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    done, pending = await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    if running in done:
        running.result()


def _load_drafter(config: AgentConfig) -> Drafter:
    limit_spinning(os.environ)
    # The library takes a second to load; other commands do not wait for it.
    from edge_agent.llama import LlamaDrafter

    draft = config.draft
    num_cores = os.cpu_count() or 1
    return LlamaDrafter(
        resolve(draft.model, default_cache_dir(os.environ)),
        num_slots=draft.max_streams,
        context_tokens=draft.context_tokens,
        # More than one spin at barriers: on a busy board they draft many times slower than one.
        threads=draft.threads or 1,
        batch_threads=draft.batch_threads or num_cores,
        gpu_layers=draft.gpu_layers,
    )


def _model_free(config: AgentConfig, token: str) -> Drafter:
    """A board without a model; the verifier knows what token ids mean."""
    from edge_agent.vocabulary import get_vocabulary

    cache_dir = default_cache_dir(os.environ)
    vocabulary = asyncio.run(get_vocabulary(config.verifier.url, token, cache_dir))
    return ModelFreeDrafter(vocabulary, config.draft.max_streams, config.draft.context_tokens)


def _draft_settings(config: AgentConfig, drafter: Drafter) -> DraftSettings:
    return DraftSettings(
        row_entries=config.draft.row_entries,
        confidence_stop=config.draft.confidence_stop,
        prefill_chunk_tokens=PREFILL_CHUNK_TOKENS,
        context_tokens=drafter.context_tokens,
        ngram_tokens=config.draft.ngram_tokens,
        has_model=bool(config.draft.model),
    )


def _draft_token_seconds(drafter: Drafter) -> float:
    """Seconds for one draft token, measured on an empty context after one token of warm-up."""
    token_ids = [drafter.vocab_size // 2]
    drafter.forward([Forward(0, tuple(token_ids))])
    started_at = time.monotonic()
    for _ in range(SPEED_TEST_TOKENS):
        drafter.forward([Forward(0, tuple(token_ids))])
    seconds = (time.monotonic() - started_at) / SPEED_TEST_TOKENS
    drafter.truncate(0, 0)
    return seconds


def _token(config: AgentConfig) -> str:
    """The device's token, from the settings or the file that they name."""
    section = config.verifier
    if section.token is not None:
        return section.token
    path = section.token_file or _credential("token")
    if path is None:
        raise ConfigError(
            ("verifier.token_file: must be set; `goodspeed-verifier token add` makes a token",)
        )
    token = read_secret_file(path)
    if not re.match(TOKEN_PATTERN, token):
        raise ConfigError(
            (f"{path}: must hold a token as `goodspeed-verifier token add` prints it",)
        )
    return token


def _api_token(section: ApiSection) -> str | None:
    return None if section.token_file is None else read_secret_file(section.token_file)


def _credential(name: str) -> Path | None:
    """A credential that systemd hands over (LoadCredential=)."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory) / name if directory else None
    return path if path is not None and path.exists() else None


main.add_command(chat)
main.add_command(fleet)
main.add_command(model)
main.add_command(config_commands(AgentConfig))
