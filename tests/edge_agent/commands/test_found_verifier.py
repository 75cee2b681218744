"""A board whose settings name no verifier finds the one that is there, or says why not."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

pytest.importorskip("zeroconf", reason="the extra `discovery`")

from edge_agent.commands import found_verifier
from edge_agent.commands.found_verifier import with_found_verifier
from edge_agent.config import AgentConfig, VerifierSection
from shared.daemon import discovery
from shared.daemon.discovery import FoundVerifier, advertised, find_verifiers
from shared.errors import ConfigError, LinkLost
from tests.support.programs.this_machine import needs_multicast

PIN = f"sha256//{'A' * 43}="
LOOKING = AgentConfig(verifier=VerifierSection(url="mdns", pin=PIN))
BOTH = [
    FoundVerifier("gpu1.local", "192.168.1.10", 8443, speaks_tls=True),
    FoundVerifier("gpu2.local", "192.168.1.11", 8443, speaks_tls=True),
]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[FoundVerifier]:
    """What is found."""
    found: list[FoundVerifier] = []

    async def find() -> list[FoundVerifier]:
        return found

    monkeypatch.setattr(found_verifier, "find_verifiers", find)
    return found


@needs_multicast
def test_the_one_that_makes_itself_known_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    here = functools.partial(find_verifiers, interfaces=("127.0.0.1",))
    loop = asyncio.new_event_loop()

    def run(search: Any) -> list[FoundVerifier]:
        return loop.run_until_complete(search)

    async def advertise() -> Any:
        known = advertised("127.0.0.1", 8443, speaks_tls=True)
        await known.__aenter__()
        return known

    monkeypatch.setattr(found_verifier, "find_verifiers", here)
    monkeypatch.setattr(found_verifier.asyncio, "run", run)
    known = loop.run_until_complete(advertise())
    try:
        config = with_found_verifier(LOOKING)
    finally:
        loop.run_until_complete(known.__aexit__(None, None, None))
        loop.close()
    assert VerifierSection(url="wss://127.0.0.1:8443", pin=PIN) == config.verifier


def test_settings_with_an_address_are_left_alone(answers: list[FoundVerifier]) -> None:
    answers += BOTH
    assert AgentConfig() == with_found_verifier(AgentConfig())


def test_where_none_answers_the_sentence_says_what_to_set(answers: list[FoundVerifier]) -> None:
    words = r"mdns: no verifier with TLS answered within 3 s: set server\.advertise = true there"
    with pytest.raises(LinkLost, match=words):
        with_found_verifier(LOOKING)


def test_one_without_tls_never_gets_the_token(answers: list[FoundVerifier]) -> None:
    answers.append(FoundVerifier("gpu1.local", "192.168.1.10", 8443, speaks_tls=False))
    with pytest.raises(LinkLost, match=r"\(1 without TLS was not taken\)"):
        with_found_verifier(LOOKING)


def test_of_two_a_person_chooses(answers: list[FoundVerifier]) -> None:
    answers += BOTH
    words = "2 verifiers answered: set verifier.url to wss://192.168.1.10:8443 or wss://192"
    with pytest.raises(LinkLost, match=words):
        with_found_verifier(LOOKING)


def test_without_the_library_the_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"verifier\.url = mdns: takes a package: pip install"):
        with_found_verifier(LOOKING)
