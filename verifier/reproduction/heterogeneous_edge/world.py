"""Users drawn by a seed: where they are, and how long their prompts are."""

from __future__ import annotations

import msgspec
import numpy as np

from shared.speculation.goodput import FloatArray, IntArray
from verifier.reproduction.heterogeneous_edge.scenario import EdgeScenario
from verifier.reproduction.heterogeneous_edge.uplink import bits_per_hertz, path_loss_decibels


class EdgeUsers(msgspec.Struct, frozen=True):
    """All arrays are [num_users], by the length of their prompts, the shortest first."""

    input_tokens: IntArray
    efficiencies: FloatArray
    """bit/s per Hz of their uplinks."""


def draw_users(scenario: EdgeScenario, seed: int) -> EdgeUsers:
    """The same for the same cell, lengths and seed, whatever the stations are.

    Of two cells that differ in their number of users, the larger one has the smaller one's first.
    """
    cell = scenario.cell
    places, shadows, lengths = (np.random.default_rng([seed, stream]) for stream in range(3))
    nearest, farthest = cell.nearest_metres**2, cell.radius_metres**2
    distances = np.sqrt(nearest + (farthest - nearest) * places.random(cell.users))
    losses = path_loss_decibels(distances)
    losses = losses + cell.shadowing_decibels * shadows.standard_normal(cell.users)
    efficiencies = bits_per_hertz(losses, cell.power_watts, cell.noise_dbm)
    parts = lengths.random(cell.users)
    input_tokens = 1 + np.floor(parts * scenario.requests.max_input_tokens).astype(np.int64)
    order = np.argsort(input_tokens, kind="stable")
    return EdgeUsers(input_tokens[order], efficiencies[order])
