"""Port, tokens, metrics and state: each state of them, and what mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.daemon.tls.certificate import Certificate
from shared.doctor.findings import Level
from verifier.doctor.port_findings import (
    PortState,
    certificate_finding,
    metrics_finding,
    port_finding,
    state_finding,
    tokens_finding,
)

TOKENS, KEY, STATE = Path("/etc/tokens"), Path("/etc/key"), Path("/var/lib/goodspeed")


@pytest.mark.parametrize(
    ("host", "port", "state", "level", "words"),
    [
        ("127.0.0.1", 8443, "free", "ok", "127.0.0.1:8443 is free; reached from this machine only"),
        ("0.0.0.0", 8443, "free", "ok", "reached from other machines, in plain text"),
        ("127.0.0.1", 0, "free", "ok", "any free port"),
        ("127.0.0.1", 8443, "served", "ok", "a verifier serves 127.0.0.1:8443"),
        ("127.0.0.1", 80, "taken", "problem", "cannot listen on 127.0.0.1:80: no rights"),
    ],
)
def test_the_port(host: str, port: int, state: PortState, level: Level, words: str) -> None:
    finding = port_finding(host, port, state, "no rights")
    assert level == finding.level
    assert words in finding.sentence
    assert (level == "ok") is (finding.remedy is None)


def test_a_port_with_tls_is_not_called_plain_text() -> None:
    sentence = port_finding("0.0.0.0", 8443, "free", "", speaks_tls=True).sentence
    assert "reached from other machines, over TLS" in sentence


LASTING = Certificate("own.crt", ("gpu1",), 0.0, 100 * 86_400.0, "sha256//x=")


@pytest.mark.parametrize(
    ("certificate", "fault", "host", "days", "level", "words"),
    [
        (None, None, "127.0.0.1", 0, "ok", "none: the port is in plain text, for this machine"),
        (None, None, "0.0.0.0", 0, "warning", "none: prompts, answers and tokens can be read"),
        (None, "key: is not the key", "0.0.0.0", 0, "problem", "key: is not the key"),
        (LASTING, None, "0.0.0.0", 10, "ok", "own.crt: for gpu1, 90 days left, pin sha256//x="),
        (LASTING, None, "0.0.0.0", 90, "warning", "own.crt: the certificate expires in 10 days"),
    ],
)
def test_the_certificate(
    certificate: Certificate | None,
    fault: str | None,
    host: str,
    days: float,
    level: Level,
    words: str,
) -> None:
    finding = certificate_finding(certificate, fault, host, days * 86_400)
    assert level == finding.level
    assert words in finding.sentence
    assert (level == "ok") is (finding.remedy is None)


@pytest.mark.parametrize(
    ("num_devices", "fault", "level", "remedy"),
    [
        (1, "", "ok", None),
        (200, "", "ok", None),
        (0, "", "warning", "goodspeed-verifier token add NAME --tokens-file /etc/tokens"),
        (None, "cannot be read", "problem", "goodspeed-verifier token add NAME"),
        (None, "everyone can reach it; chmod 640 mends it", "problem", "chmod 640 /etc/tokens"),
    ],
)
def test_tokens(num_devices: int | None, fault: str, level: Level, remedy: str | None) -> None:
    finding = tokens_finding(TOKENS, num_devices, fault)
    assert level == finding.level
    assert (remedy is None) is (finding.remedy is None)
    assert (remedy or "") in (finding.remedy or "")


@pytest.mark.parametrize(
    ("path", "fault", "on_loopback", "level"),
    [
        (None, None, True, "ok"),
        (None, None, False, "warning"),
        (KEY, None, True, "ok"),
        (KEY, None, False, "ok"),
        (KEY, "a weak key", True, "problem"),
    ],
)
def test_metrics(path: Path | None, fault: str | None, on_loopback: bool, level: Level) -> None:
    finding = metrics_finding(path, fault, on_loopback)
    assert level == finding.level
    assert (level == "ok") is (finding.remedy is None)


@pytest.mark.parametrize(
    ("directory", "free_bytes", "level"),
    [
        (None, None, "ok"),
        (STATE, None, "problem"),
        (STATE, 999_999, "problem"),
        (STATE, 49_999_999, "warning"),
        (STATE, 50_000_000, "ok"),
    ],
)
def test_state(directory: Path | None, free_bytes: int | None, level: Level) -> None:
    finding = state_finding(directory, free_bytes, "there is no such directory")
    assert level == finding.level
    assert (level == "ok") is (finding.remedy is None)
