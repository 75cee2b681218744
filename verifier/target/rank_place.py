"""Which of several processes one is that run one target together, each with a part of it.

Pure. All of them are on one machine; rank 0 answers, and gives each round to the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from verifier.target.round import Round


@dataclass(frozen=True, slots=True)
class RankPlace:
    """One process's place; a target without one is whole."""

    rank: int
    num_ranks: int
    port: int  # on loopback, where the ranks find each other
    listening: int | None = None  # at rank 0: the number of the socket there, which is taken over
    tell: Callable[[Round], None] | None = None  # at rank 0: gives the others a round
