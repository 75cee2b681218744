"""The port, who may connect, who sees metrics, and the directory of state. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from shared.config.addresses import is_loopback
from shared.doctor.findings import Finding, ok, problem, warning

PortState = Literal["free", "served", "taken"]
"""Free; a verifier answers there; another program has it, or it cannot be listened on."""

_LITTLE_BYTES = 50_000_000
_NO_ROOM_BYTES = 1_000_000  # a curve takes some 100 kB, and its successor is written beside it


def port_finding(host: str, port: int, state: PortState, fault: str) -> Finding:
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
    reach = "this machine only" if is_loopback(host) else "other machines, in plain text"
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
