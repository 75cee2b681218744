"""What every client's program says: for each scenario what came of it, as one JSON object."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version

_NAMES = ("AGENT", "AWAY", "LOCKED", "SLOW", "CALLS", "FORMS")
AGENT, AWAY, LOCKED, SLOW, CALLS, FORMS = (os.environ[name] for name in _NAMES)
KEY = "a key of some length for clients"  # of the agent at LOCKED
SYSTEM = "Be brief."
TURNS = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "1"},
    {"role": "user", "content": "turns"},
]
# A function on offer at CALLS, and a form that the board at FORMS can be held to.
WEATHER = {
    "name": "get_weather",
    "description": "How the weather is.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
TOOLS = [{"type": "function", "function": WEATHER}]
PET = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "enum": ["cat", "dog"]},
        "age": {"type": "integer", "minimum": 0, "maximum": 30},
    },
    "required": ["kind", "age"],
    "additionalProperties": False,
}


def report(scenarios: Mapping[str, Callable[[], object]], *packages: str) -> None:
    """Play all of them; a failure is what the client raises."""
    told: dict[str, object] = {"version": ", ".join(f"{name} {version(name)}" for name in packages)}
    for name, play in scenarios.items():
        try:
            told[name] = play()
        except Exception as error:  # noqa: BLE001 - each client has its own
            told[name] = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(told) + "\n")
