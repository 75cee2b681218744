"""What an operator sets for devices, as a planner takes it over while rounds run.

Pure. This module must never know where it was set.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from verifier.rounds.planner import RoundPlanner


def set_device_terms(
    planner: RoundPlanner,
    paused: frozenset[str],
    weights: Mapping[str, float],
    caps: Mapping[str, int],
    slos: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """From the next plan on these devices wait, weigh so much, draft so much at most.

    `slos`: seconds a token that their next streams are promised, where not as usual.
    """
    planner.patience.paused = paused
    schedule = msgspec.structs.replace(
        planner.settings.schedule, device_weights=weights, device_caps=caps
    )
    planner.settings = msgspec.structs.replace(planner.settings, schedule=schedule)
    promises = planner.promises
    promises.settings = msgspec.structs.replace(promises.settings, by_device=slos)
