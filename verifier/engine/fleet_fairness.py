"""How evenly and how well the devices are served, for all who look at the verifier.

This module must never influence a decision of the scheduler.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from shared.speculation.fairness import jain_index, log_utility
from verifier.engine.device import Device


class FleetFairness(NamedTuple):
    """Single numbers of many devices; None where there is nothing to tell yet."""

    jain_index: float | None  # of tokens per round: 1 if all are equal
    log_goodput: float | None  # sum of ln(tokens per second) over those that had a round


def fairness_of(devices: Iterable[Device]) -> FleetFairness:
    """That of the devices, connected or not."""
    goodputs = [device.estimates.goodput for device in devices]
    speeds = [goodput.tokens_per_second for goodput in goodputs]
    known = [speed for speed in speeds if speed is not None]
    return FleetFairness(
        jain_index([goodput.tokens_per_round for goodput in goodputs]) if goodputs else None,
        log_utility(known) if known else None,
    )
