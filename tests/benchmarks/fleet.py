"""A verifier and agents as real processes for benchmarks, with the cores that each may use."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.network.chaos_lane import Weather
from tests.support.network.chaos_proxy import local
from tests.support.network.proxy_thread import ProxyThread
from tests.support.programs.command import AGENT, VERIFIER
from tests.support.programs.programs import Programs
from tests.support.programs.serving_program import ServingProgram


@dataclass(frozen=True)
class Fleet:
    """The running verifier, and where its agents answer."""

    verifier: ServingProgram
    agent_ports: tuple[int, ...]


@contextmanager
def fleet(
    drafts: Sequence[str],
    *,
    verifier_settings: Mapping[str, object] | None = None,
    agent_settings: Mapping[str, object] | None = None,
    own_settings: Sequence[Mapping[str, object]] | None = None,
    verifier_cores: set[int] | None = None,
    agent_cores: set[int] | None = None,
    own_cores: Sequence[set[int]] | None = None,
    launcher: Sequence[str] = VERIFIER,
    options: Sequence[str] = (),
    weather: Weather | None = None,
) -> Iterator[Fleet]:
    """Start a verifier and one agent for each draft model; stop them at the end.

    `agent_settings` and `agent_cores` are of all agents, `own_…` of each of them; `launcher` and
    `options` go before and behind the verifier's `run`; `weather` is that of all links.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        programs = stack.enter_context(Programs(directory))
        token_files = [programs.token_file(f"board-{i}") for i in range(len(drafts))]
        verifier = programs.verifier(launcher, verifier_settings, verifier_cores, options=options)
        verifier.start()
        verifier.wait_until_ready()
        url = f"ws://127.0.0.1:{verifier.port}"
        if weather is not None:
            proxy = stack.enter_context(ProxyThread(local(verifier.port)))
            proxy.change(weather)
            url = proxy.url
        agents = []
        for i, (draft, token_file) in enumerate(zip(drafts, token_files, strict=True)):
            own = {
                "draft.model": draft,
                **(agent_settings or {}),
                **(own_settings[i] if own_settings else {}),
            }
            cores = own_cores[i] if own_cores else agent_cores
            agents.append(programs.agent(url, token_file, AGENT, own, cores))
            agents[-1].start()
        for agent in agents:
            agent.wait_until_ready()
        yield Fleet(verifier, tuple(agent.port for agent in agents))


def setting_of(text: str) -> tuple[str, object]:
    """Key and value of what `--set` gives: SECTION.KEY=VALUE."""
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
