"""The port, who may connect, who sees metrics, and the directory of state. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from shared.config.addresses import is_loopback
from shared.daemon.tls.certificate import Certificate
from shared.doctor.findings import Finding, ok, problem, warning

PortState = Literal["free", "served", "taken"]
"""Free; a verifier answers there; another program has it, or it cannot be listened on."""

_LITTLE_BYTES = 50_000_000
_NO_ROOM_BYTES = 1_000_000  # a curve takes some 100 kB, and its successor is written beside it


def port_finding(
    host: str, port: int, state: PortState, fault: str, *, speaks_tls: bool = False
) -> Finding:
    """Whether `run` can listen; `fault`: why not."""
    address = f"{host}:{port}"
    if state == "served":
        return ok("port", f"a verifier serves {address}")
    if state == "taken":
        return problem(
            "port",
            f"cannot listen on {address}: {fault}",
            f"sudo ss -ltnp 'sport = :{port}' says who does; or set server.port or server.host",
        )
    how = "over TLS" if speaks_tls else "in plain text"
    reach = "this machine only" if is_loopback(host) else f"other machines, {how}"
    return ok("port", f"{address} is free; reached from {reach}" if port else "any free port")


def tokens_finding(path: Path, num_devices: int | None, fault: str) -> Finding:
    """Who may connect; None: the file cannot be used, for the reason given."""
    add = f"goodspeed-verifier token add NAME --tokens-file {path}"
    if num_devices is None:
        remedy = f"chmod 640 {path}" if "chmod" in fault else add
        return problem("tokens", fault, remedy)
    if not num_devices:
        return warning("tokens", f"{path} has no device: no board can connect", add)
    return ok("tokens", f"{path}: {num_devices} device{'s' * (num_devices != 1)}")


def certificate_finding(
    certificate: Certificate | None, fault: str | None, host: str, now: float
) -> Finding:
    """What the port shows, if it speaks TLS; `fault`: why it cannot."""
    renew = "get a new one, or goodspeed-verifier init --private-ca; systemctl reload after it"
    if fault is not None:
        return problem("certificate", fault, renew)
    if certificate is None:
        if is_loopback(host):
            return ok("certificate", "none: the port is in plain text, for this machine")
        return warning(
            "certificate",
            "none: prompts, answers and tokens can be read on the way",
            "goodspeed-verifier init --private-ca, or set server.certificate_file and "
            "server.key_file",
        )
    sentence = certificate.warning(now)
    if sentence is not None:
        return warning("certificate", sentence, renew)
    names = ", ".join(certificate.names)
    days = f"{(certificate.not_after - now) / 86_400:.0f} days"
    return ok("certificate", f"{certificate.name}: for {names}, {days} left, pin {certificate.pin}")


def metrics_finding(path: Path | None, fault: str | None, on_loopback: bool) -> Finding:
    """Who sees /metrics."""
    local = "programs on this machine" if on_loopback else "nothing else"
    if path is None:
        if on_loopback:
            return ok("metrics", f"/metrics is open to {local}")
        return warning(
            "metrics",
            "/metrics is closed to all",
            "set server.metrics_token_file, or server.metrics_on_loopback = true",
        )
    if fault is not None:
        return problem("metrics", fault, f"openssl rand -hex 32 > {path}; chmod 640 {path}")
    return ok("metrics", f"/metrics is open to the token in {path} and to {local}")


def state_finding(directory: Path | None, free_bytes: int | None, fault: str) -> Finding:
    """Where the curve is kept; None bytes: it cannot be written, for the reason given."""
    if directory is None:
        return ok("state", "nothing is kept from one start to the next")
    if free_bytes is None:
        return problem(
            "state",
            f"{directory}: {fault}",
            f"sudo install -d -o goodspeed -g goodspeed {directory}",
        )
    sentence = f"{directory}: {free_bytes / 1e6:.0f} MB free"
    if free_bytes < _NO_ROOM_BYTES:
        return problem("state", sentence, f"make room: df -h {directory}")
    if free_bytes < _LITTLE_BYTES:
        return warning("state", sentence, f"make room: df -h {directory}")
    return ok("state", sentence)
