"""What every client's program says: for each scenario what came of it, as one JSON object."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version

AGENT, AWAY, LOCKED, SLOW = (os.environ[name] for name in ("AGENT", "AWAY", "LOCKED", "SLOW"))
KEY = "a key of some length for clients"  # of the agent at LOCKED
SYSTEM = "Be brief."
TURNS = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "turns"},
]


def report(scenarios: Mapping[str, Callable[[], object]], *packages: str) -> None:
    """Play all of them; a failure is what the client raises."""
    told: dict[str, object] = {"version": ", ".join(f"{name} {version(name)}" for name in packages)}
    for name, play in scenarios.items():
        try:
            told[name] = play()
        except Exception as error:  # noqa: BLE001 - each client has its own
            told[name] = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(told) + "\n")
