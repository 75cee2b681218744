"""What an operator sets for devices, as a planner takes it over while rounds run.

Pure. This module must never know where it was set.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from verifier.rounds.planner import RoundPlanner


def set_device_terms(
    planner: RoundPlanner,
    paused: frozenset[str],
    weights: Mapping[str, float],
    caps: Mapping[str, int],
) -> None:
    """From the next plan on these devices wait, weigh so much, draft so much at most."""
    planner.patience.paused = paused
    schedule = msgspec.structs.replace(
        planner.settings.schedule, device_weights=weights, device_caps=caps
    )
    planner.settings = msgspec.structs.replace(planner.settings, schedule=schedule)
