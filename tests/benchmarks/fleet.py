"""A verifier and agents as real processes for benchmarks, with the cores that each may use."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

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
) -> Iterator[Fleet]:
    """Start a verifier and one agent for each draft model; stop them at the end.

    `agent_settings` are of all agents, `own_settings` of each of them.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        programs = stack.enter_context(Programs(directory))
        token_files = [programs.token_file(f"board-{i}") for i in range(len(drafts))]
        verifier = programs.verifier(VERIFIER, verifier_settings, verifier_cores)
        verifier.start()
        verifier.wait_until_ready()
        agent_ports = []
        for i, (draft, token_file) in enumerate(zip(drafts, token_files, strict=True)):
            own = {
                "draft.model": draft,
                **(agent_settings or {}),
                **(own_settings[i] if own_settings else {}),
            }
            url = f"ws://127.0.0.1:{verifier.port}"
            agent = programs.agent(url, token_file, AGENT, own, agent_cores)
            agent.start()
            agent.wait_until_ready()
            agent_ports.append(agent.port)
        yield Fleet(verifier, tuple(agent_ports))
