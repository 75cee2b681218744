"""How long the API of a board waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the API waits for whom."""

    body_seconds: float = 10.0  # for a request's body; aiohttp itself would wait for ever
    keepalive_seconds: float = 5.0  # of silence in an event stream, then a comment
    grace_seconds: float = 60.0  # for a client to take its answer up again


PATIENCE = Patience()
