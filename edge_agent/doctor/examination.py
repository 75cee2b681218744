"""The whole examination of a board, in the order in which one thing needs the other.

Each finding is yielded as soon as it is known; nothing here judges, and nothing is changed.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from edge_agent.board.clock import read_clock
from edge_agent.board.heat import read_heat
from edge_agent.board.processor import Processor, read_processor
from edge_agent.config import AgentConfig
from edge_agent.doctor.board_findings import clock_finding, heat_findings, memory_finding
from edge_agent.doctor.link_findings import (
    greeting_finding,
    refusal_finding,
    round_trip_finding,
    round_trips,
    transport_finding,
)
from edge_agent.doctor.link_probe import greet, is_answering, measure_round_trips
from edge_agent.doctor.measured_settings import Measured
from edge_agent.doctor.model_findings import model_finding
from edge_agent.doctor.model_probe import family, look_at_model, made_for, memory_need
from edge_agent.doctor.processor_findings import (
    build_finding,
    frequency_finding,
    lacks_what_build_needs,
)
from edge_agent.doctor.speed_findings import (
    pays_finding,
    quantisation_finding,
    thread_counts,
    threads_finding,
)
from edge_agent.doctor.speed_probe import measure_each
from edge_agent.doctor.trial import try_out
from edge_agent.draft_model.drafter import Drafter
from edge_agent.draft_model.llama_build import read_build
from edge_agent.startup import (
    load_drafter,
    make_agent,
    measure_draft_token_seconds,
    verifier_tls,
)
from edge_agent.tokens import read_device_token
from shared.config.model_files import default_cache_dir
from shared.daemon.resources.main_memory import free_main_memory
from shared.doctor.findings import Finding, problem, warning
from shared.errors import GoodspeedError, ModelError

Tell = Callable[[str], None]
"""Gets what is about to take a while."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """How long measuring may take, in seconds; together well below a minute."""

    each_speed: float = 1.0
    all_speeds: float = 12.0
    trial: float = 24.0
    num_round_trips: int = 20


class Examination:
    """One examination by the settings of the agent."""

    def __init__(
        self,
        config: AgentConfig,
        tell: Tell,
        budget: Budget | None = None,
        root: Path = Path("/"),
        load: Callable[[AgentConfig, str], Drafter] = load_drafter,
    ) -> None:
        self._config = config
        self._tell = tell
        self._budget = budget or Budget()
        self._root = root
        self._load = load
        self._cache_dir = default_cache_dir(os.environ)
        self._round_trip_seconds = 0.0
        self.measured: Measured | None = None  # once all speeds are known

    def findings(self) -> Iterator[Finding]:
        """All that is found, one after the other."""
        config = self._config
        processor = read_processor(self._root)
        yield frequency_finding(processor)
        build = read_build()
        yield build_finding(processor, build, config.draft.gpu_layers)
        yield clock_finding(read_clock(self._root), config.verifier.url.startswith("wss:"))
        self._tell("reading the model")
        facts, outline = look_at_model(config.draft, self._cache_dir)
        yield model_finding(facts)
        if outline is not None:
            need = memory_need(outline, config.draft)
            yield memory_finding(need, free_main_memory())
        speaks_tls = config.api.certificate_file is not None
        if asyncio.run(is_answering(config.api.host, config.api.port, speaks_tls=speaks_tls)):
            yield self._agent_in_the_way()
            yield from heat_findings(read_heat(self._root))
            yield transport_finding(config.verifier.url)
            yield from self._way()
            return
        may_draft = outline is not None and not lacks_what_build_needs(processor, build)
        if may_draft:
            yield from self._speed(processor)
        yield from heat_findings(read_heat(self._root))
        yield transport_finding(config.verifier.url)
        yield from self._verifier(may_draft or not config.draft.model)

    def _tls(self) -> ssl.SSLContext | None:
        return verifier_tls(self._config.verifier)

    def _agent_in_the_way(self) -> Finding:
        address = f"{self._config.api.host}:{self._config.api.port}"
        return warning(
            "agent",
            f"an agent answers at {address}, and would be disturbed: speed, token, vocabulary and "
            "whether drafts pay were left out",
            "sudo systemctl stop goodspeed-agent, then goodspeed-agent doctor again",
        )

    def _speed(self, processor: Processor) -> Iterator[Finding]:
        """Threads first, then other quantisations of the model with the threads as set."""
        draft = self._config.draft
        configured = draft.threads or 1
        deadline = time.monotonic() + self._budget.all_speeds
        try:
            self._tell("measuring how fast this board drafts")
            by_threads = measure_each(
                thread_counts(processor.num_cores, configured),
                lambda threads: self._drafter(threads=threads),
                *(self._budget.each_speed, deadline),
            )
            yield threads_finding(by_threads, configured)
            by_model = {draft.model: by_threads[configured]} | measure_each(
                family(draft.model, self._cache_dir),
                lambda model: self._drafter(model=model),
                *(self._budget.each_speed, deadline),
            )
            self.measured = Measured(by_threads, by_model, draft.model)
            absent = made_for(draft.model, self._cache_dir)
            yield quantisation_finding(by_model, draft.model, absent)
        except ModelError as error:
            yield problem("threads", str(error), "set another draft.model, or pull it again")

    def _drafter(self, **changes: object) -> Drafter:
        draft = msgspec.structs.replace(self._config.draft, max_streams=1, **changes)
        return self._load(msgspec.structs.replace(self._config, draft=draft), "")

    def _way(self) -> Iterator[Finding]:
        """How far the verifier is; needs no token."""
        url = self._config.verifier.url
        self._tell("asking the verifier")
        try:
            samples = asyncio.run(
                measure_round_trips(url, self._budget.num_round_trips, self._tls())
            )
        except GoodspeedError as error:
            yield refusal_finding(error, url)
        else:
            self._round_trip_seconds = round_trips(samples).median_seconds
            yield round_trip_finding(round_trips(samples))

    def _verifier(self, may_draft: bool) -> Iterator[Finding]:
        """Round trip, handshake, and a trial with and without drafts."""
        url = self._config.verifier.url
        for finding in self._way():
            yield finding
            if finding.level == "problem":
                return
        try:
            token = read_device_token(self._config)
            if not may_draft:
                return
            self._tell("trying drafts at the verifier")
            drafter = self._load(self._config, token)
            try:
                yield greeting_finding(asyncio.run(greet(url, token, drafter, self._tls())))
                yield self._trial(drafter, token)
            finally:
                drafter.close()
        except GoodspeedError as error:
            yield refusal_finding(error, url)

    def _trial(self, drafter: Drafter, token: str) -> Finding:
        draft_token_seconds = measure_draft_token_seconds(self._config, drafter)
        agent = make_agent(self._config, drafter, token)
        trial = asyncio.run(try_out(agent, self._budget.trial))
        return pays_finding(trial, draft_token_seconds, self._round_trip_seconds)
