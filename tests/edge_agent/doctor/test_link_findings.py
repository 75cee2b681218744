"""The way to the verifier: each state of it, and what mends it."""

from __future__ import annotations

import pytest

from edge_agent.doctor.link_findings import (
    Greeting,
    RoundTrips,
    greeting_finding,
    refusal_finding,
    round_trip_finding,
    round_trips,
    transport_finding,
)
from shared.doctor.findings import Level, ok
from shared.errors import (
    AuthRejected,
    ConfigError,
    GoodspeedError,
    HandshakeRejected,
    LinkLost,
    ModelError,
    VerifierLoading,
)

URL = "ws://192.168.1.10:8443"


@pytest.mark.parametrize(
    ("url", "level", "words"),
    [
        ("wss://gpu.example.org", "ok", "TLS"),
        ("ws://127.0.0.1:8443", "ok", "within this machine"),
        (URL, "ok", "machines of the private network"),
        ("ws://gpu.example.org", "warning", "can be read"),
    ],
)
def test_who_can_read_along(url: str, level: Level, words: str) -> None:
    finding = transport_finding(url)
    assert level == finding.level
    assert words in finding.sentence
    assert (level == "ok") is (finding.remedy is None)


def test_jitter_is_the_mean_step_from_one_sample_to_the_next() -> None:
    assert RoundTrips(0.5, 0.25, 3) == round_trips([0.25, 0.5, 0.75])


@pytest.mark.parametrize(("jitter", "level"), [(0.03, "ok"), (0.031, "warning")])
def test_much_jitter_is_told(jitter: float, level: Level) -> None:
    finding = round_trip_finding(RoundTrips(0.0123, jitter, 20))
    assert level == finding.level
    assert finding.sentence.startswith("round trip 12.3 ms, jitter 3")


def test_a_welcome_says_how_much_of_the_vocabularies_is_shared() -> None:
    assert ok(
        "verifier",
        "accepts this board's token; big shares 100 ids with the draft model",
    ) == greeting_finding(Greeting("big", 100, 0))
    assert "7 are never drafted" in greeting_finding(Greeting("big", 100, 7)).sentence


@pytest.mark.parametrize(
    ("error", "subject", "remedy"),
    [
        (ConfigError(("a: wrong", "b: wrong")), "token", "token add NAME, on the verifier"),
        (AuthRejected("unknown token"), "token", "its output goes to verifier.token_file"),
        (HandshakeRejected("id 5 differs"), "verifier", "model of the target's family"),
        (VerifierLoading("43", None), "verifier", "again in a minute"),
        (LinkLost("no answer"), "verifier", f"that verifier.url = {URL} is its address"),
        (ModelError("hands out no vocabulary"), "verifier", "see that the verifier runs"),
    ],
)
def test_every_refusal_is_one_sentence_and_a_remedy(
    error: GoodspeedError, subject: str, remedy: str
) -> None:
    finding = refusal_finding(error, URL)
    assert ("problem", subject) == (finding.level, finding.subject)
    assert "\n" not in finding.sentence
    assert finding.remedy is not None
    assert remedy in finding.remedy
