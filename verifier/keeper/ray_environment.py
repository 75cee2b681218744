"""What Ray reads of the environment of a process, which must stand there before ray is imported."""

from __future__ import annotations

import os

# Where Ray's head is gone, all others of Ray end after 60 s; for so long they go on without.
_WITHOUT_HEAD_SECONDS = 100_000
_TOKEN = "RAY_AUTH_TOKEN"  # the name of a variable, which would go before the file


def set_environment(token_file: str, *, is_local: bool) -> None:
    """Tokens are asked for, nothing is told to Ray's makers, and one host listens on loopback."""
    os.environ.pop(_TOKEN, None)
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": token_file,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": str(_WITHOUT_HEAD_SECONDS),
        "RAY_DEDUP_LOGS": "0",
        "RAY_worker_niceness": "0",  # else what actors start, too, gives way to all others (15)
    }
    if is_local:
        # Ray's word for "there is one host"; without it every process listens on all addresses.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


def strangers_environment() -> dict[str, str]:
    """That of a process that has no token."""
    shown = {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", _TOKEN}
    kept = {name: value for name, value in os.environ.items() if name not in shown}
    return {**kept, "RAY_AUTH_MODE": "disabled"}
