"""From settings to the parts of an agent: draft model, its speed, the agent, its API.

The only place that knows every part of the agent.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.board.health import read_health
from edge_agent.config import (
    AgentConfig,
    ApiSection,
    DraftSection,
    VerifierSection,
    listed,
)
from edge_agent.draft_model.drafter import Drafter, Forward
from edge_agent.draft_model.model_free_drafter import ModelFreeDrafter
from edge_agent.drafting.settings import PREFILL_CHUNK_TOKENS, DraftSettings
from edge_agent.models.presets import locate, resolve
from shared.config.model_files import default_cache_dir
from shared.daemon.model_border import model_border
from shared.daemon.resources.cpu_threads import limit_spinning
from shared.protocol.handed_drafts.draft_offers import DraftOffer
from shared.protocol.messages import AssignedDraft

if TYPE_CHECKING:
    from aiohttp.web import Application

    from edge_agent.api.access import Access
    from edge_agent.generation.agent import Agent, FetchFrom

# Tokens drafted at start to tell the verifier how fast this board is.
SPEED_TEST_TOKENS = 8


def load_drafter(config: AgentConfig, token: str) -> Drafter:
    """The draft model of the settings; without one the verifier's vocabulary, fetched with `token`.

    Raises:
        ModelError: the model cannot be loaded; the sentence says why.
    """
    return _load_model(config) if config.draft.model else _make_model_free(config, token)


def _load_model(config: AgentConfig) -> Drafter:
    draft = config.draft
    path = resolve(draft.model, default_cache_dir(os.environ))
    limit_spinning(os.environ)
    with model_border(f"cannot load {path} as a draft model"):
        return _load_llama(path, draft)


def _load_llama(path: Path, draft: DraftSection) -> Drafter:
    # The library takes a second to load; other commands do not wait for it.
    from edge_agent.draft_model.llama_drafter import LlamaDrafter

    num_cores = os.cpu_count() or 1
    return LlamaDrafter(
        path,
        num_slots=draft.max_streams,
        context_tokens=draft.context_tokens,
        # More than one spin at barriers: on a busy board they draft many times slower than one.
        threads=draft.threads or 1,
        batch_threads=draft.batch_threads or num_cores,
        gpu_layers=draft.gpu_layers,
    )


def _make_model_free(config: AgentConfig, token: str) -> Drafter:
    """A board without a model; the verifier knows what token ids mean."""
    from edge_agent.link.vocabulary_fetch import get_vocabulary

    cache_dir = default_cache_dir(os.environ)
    token_bytes = asyncio.run(
        get_vocabulary(config.verifier.url, token, cache_dir, verifier_tls(config.verifier))
    )
    return ModelFreeDrafter(token_bytes, config.draft.max_streams, config.draft.context_tokens)


def verifier_tls(section: VerifierSection) -> ssl.SSLContext | None:
    """Whom this board trusts as its verifier; None: its address is in plain text.

    Raises:
        ConfigError: a file is wrong.
    """
    if not section.url.startswith("wss:"):
        return None
    from edge_agent.link.verifier_trust import VerifierTrust, client_context

    return client_context(
        VerifierTrust(section.ca_file, section.pin, section.certificate_file, section.key_file)
    )


def make_agent(config: AgentConfig, drafter: Drafter, token: str) -> Agent:
    """The agent, once it is known how fast this board drafts."""
    from edge_agent.generation.agent import Agent

    return Agent(
        drafter,
        draft_settings(config, drafter),
        url=config.verifier.url,
        token=token,
        draft_token_seconds=measure_draft_token_seconds(config, drafter),
        tls=verifier_tls(config.verifier),
        read_health=read_health,
        fetch_draft=assigned_draft_source(config),
        draft_bytes=_model_bytes(config),
    )


def assigned_draft_source(config: AgentConfig) -> FetchFrom | None:
    """How to get what the verifier assigns; None: this board takes nothing."""
    room_bytes = config.draft.assigned_megabytes * 1_000_000
    if not room_bytes:
        return None
    from edge_agent.generation.assigned_drafts import LoadedDraft
    from edge_agent.models.assigned import get_assigned
    from edge_agent.models.from_verifier import OfferingVerifier

    def load(path: Path) -> LoadedDraft:
        with model_border(f"cannot load {path} as a draft model"):
            drafter = _load_llama(path, config.draft)
        return LoadedDraft(drafter, time_draft_token(drafter))

    async def fetch(draft: AssignedDraft, token: str, tls: ssl.SSLContext | None) -> LoadedDraft:
        verifier = OfferingVerifier(config.verifier.url, token, tls)
        offer = DraftOffer(draft.name, draft.num_bytes, draft.sha256.hex())
        cache_dir = default_cache_dir(os.environ)
        path = await get_assigned(verifier, offer, cache_dir, room_bytes)
        return await asyncio.to_thread(load, path)

    return fetch


def _model_bytes(config: AgentConfig) -> int:
    """Of the draft model's file; 0: there is none."""
    model = config.draft.model
    return locate(model, default_cache_dir(os.environ)).stat().st_size if model else 0


def make_app(agent: Agent, section: ApiSection, clients_token: str | None) -> Application:
    """What clients of this board may ask."""
    from edge_agent.api.app import build_app
    from edge_agent.generation.queued_generator import QueuedGenerator
    from edge_agent.generation.waiting_line import LineLimits

    limits = LineLimits(max_requests=section.max_queued_requests, seconds=section.queue_timeout)
    generator = QueuedGenerator(agent, limits)
    access = access_rules(section, clients_token)
    return build_app(
        generator,
        access,
        place_of=generator.place_of,
        num_waiting=lambda: generator.num_waiting,
        hindrance=lambda: agent.hindrance,
        tokenizer=agent.tokenizer,
    )


def access_rules(section: ApiSection, clients_token: str | None) -> Access:
    """Who may ask this board, and under which names."""
    from edge_agent.api.access import Access
    from shared.daemon.local_requests import LOOPBACK_HOSTS

    hosts = listed(section.allowed_hosts)
    is_any = clients_token is not None and not hosts
    return Access(
        clients_token,
        allowed_hosts=None if is_any else LOOPBACK_HOSTS | hosts,
        allowed_origins=listed(section.allowed_origins),
    )


def draft_settings(config: AgentConfig, drafter: Drafter) -> DraftSettings:
    """What the drafting loop needs to know of the settings and the model."""
    return DraftSettings(
        row_entries=config.draft.row_entries,
        confidence_stop=config.draft.confidence_stop,
        prefill_chunk_tokens=PREFILL_CHUNK_TOKENS,
        context_tokens=drafter.context_tokens,
        ngram_tokens=config.draft.ngram_tokens,
        has_model=bool(config.draft.model),
    )


def measure_draft_token_seconds(config: AgentConfig, drafter: Drafter) -> float:
    """Seconds for one draft token of the configured model; 0: there is none."""
    return time_draft_token(drafter) if config.draft.model else 0.0


def time_draft_token(drafter: Drafter) -> float:
    """Seconds for one draft token, measured on an empty context after one token of warm-up."""
    token_ids = [drafter.vocab_size // 2]
    drafter.forward([Forward(0, tuple(token_ids))])
    started_at = time.monotonic()
    for _ in range(SPEED_TEST_TOKENS):
        drafter.forward([Forward(0, tuple(token_ids))])
    seconds = (time.monotonic() - started_at) / SPEED_TEST_TOKENS
    drafter.truncate(0, 0)
    return seconds
