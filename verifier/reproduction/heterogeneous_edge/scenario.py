"""What a heterogeneous edge network is made of; the defaults are the paper's cell.

Zhu et al., arXiv 2510.11331, section on simulations, as far as its constants are known. Pure
values: this module must never read a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.config.sections import Section
from verifier.reproduction.heterogeneous_edge.models import SHAPES, ModelName
from verifier.reproduction.heterogeneous_edge.stations import (
    CARDS,
    CardName,
    ExecutionTime,
    execution_time,
    measured_efficiency,
)

MAX_LENGTH = 32
_GIGABYTE = 1e9


class CellSection(Section, frozen=True):
    """Users and their radio."""

    users: Annotated[int, Meta(ge=1, le=2_000, description="K, requests at once")] = 100
    radius_metres: Annotated[
        float, Meta(ge=1.0, le=1e5, description="users lie anywhere within it, evenly")
    ] = 400.0
    nearest_metres: Annotated[
        float, Meta(ge=0.1, le=1e5, description="but no nearer than this (3GPP: 35 m)")
    ] = 35.0
    bandwidth_megahertz: Annotated[
        float, Meta(ge=1e-3, le=1e5, description="B, which the uplinks of all users share")
    ] = 20.0
    power_watts: Annotated[float, Meta(ge=1e-6, le=1e3, description="P of each user")] = 0.2
    noise_dbm: Annotated[
        float, Meta(ge=-200.0, le=100.0, description="at the station, whatever the bandwidth")
    ] = -106.0
    shadowing_decibels: Annotated[
        float, Meta(ge=0.0, le=20.0, description="deviation of the loss that obstacles add")
    ] = 0.0

    def unfit(self) -> Iterator[tuple[str, str]]:
        """There is a place for users."""
        if self.nearest_metres >= self.radius_metres:
            yield "nearest_metres", f"less than radius_metres = {self.radius_metres:g}"


class RequestSection(Section, frozen=True):
    """What each user asks."""

    max_input_tokens: Annotated[
        int, Meta(ge=1, le=1 << 17, description="prompts have 1 to so many tokens, evenly")
    ] = 512
    max_output_tokens: Annotated[
        int, Meta(ge=1, le=1 << 17, description="O: every batch runs until so many are written")
    ] = 2048
    prompt_token_bits: Annotated[
        float, Meta(ge=1.0, le=1e9, description="sent for a token of a prompt; text: 32")
    ] = 32.0
    acceptance: Annotated[
        float, Meta(ge=0.01, le=0.99, description="how often a draft token survives")
    ] = 0.8


class StationSection(Section, frozen=True):
    """One small base station that drafts, one large one that checks."""

    draft_model: Annotated[ModelName, Meta(description="at the small one")] = "llama-1.1b"
    target_model: Annotated[ModelName, Meta(description="at the large one")] = "llama-7b"
    small_card: Annotated[CardName, Meta(description="GPU of the small one")] = "rtx-3080"
    large_card: Annotated[CardName, Meta(description="GPU of the large one")] = "rtx-4500"
    small_memory_gigabytes: Annotated[
        float, Meta(ge=0.1, le=1e4, description="weights and the cache of a batch must fit")
    ] = 16.0
    small_slowness: Annotated[
        float, Meta(ge=1e-3, le=1e3, description="times what the card's data sheet lets expect")
    ] = 1.0
    max_draft_length: Annotated[
        int, Meta(ge=1, le=MAX_LENGTH, description="l is tried from 1 to this")
    ] = 10

    @property
    def drafting(self) -> ExecutionTime:
        """c1 and c2 of the small station."""
        time = execution_time(
            SHAPES[self.draft_model], CARDS[self.small_card], measured_efficiency()
        )
        return ExecutionTime(
            time.seconds_per_flop * self.small_slowness, time.fixed_seconds * self.small_slowness
        )

    @property
    def checking(self) -> ExecutionTime:
        """c1 and c2 of the large station."""
        return execution_time(
            SHAPES[self.target_model], CARDS[self.large_card], measured_efficiency()
        )

    @property
    def cache_bytes(self) -> float:
        """What the small station has left for caches."""
        weights = SHAPES[self.draft_model].weights_bytes
        return self.small_memory_gigabytes * _GIGABYTE - weights


class EdgeScenario(msgspec.Struct, frozen=True, kw_only=True):
    """All that a plan depends on, but for the seed."""

    cell: CellSection = CellSection()
    requests: RequestSection = RequestSection()
    stations: StationSection = StationSection()

    @property
    def longest_request_bytes(self) -> float:
        """Cache of one request at the small station, at most."""
        tokens = self.requests.max_input_tokens + self.requests.max_output_tokens
        return float(SHAPES[self.stations.draft_model].cache_bytes * tokens)
