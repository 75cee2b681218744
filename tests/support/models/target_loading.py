"""Loading a target for a test, with the defaults of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from verifier.config import TargetSection, VerifierConfig
from verifier.rounds.settings import RoundsSection
from verifier.startup import target_settings
from verifier.target.rank_place import RankPlace
from verifier.torch_target.loading.target_loading import PlacedTarget, load_target


def load_on_cpu(
    path: Path, *, max_round_tokens: int = 512, place: RankPlace | None = None, **settings: Any
) -> PlacedTarget:
    """A target on the CPU, or a rank's part; `settings` are those of the section `target`."""
    rounds = RoundsSection(max_round_tokens=max_round_tokens)
    target = TargetSection(**{"device": "cpu", **settings})
    config = VerifierConfig(target=target, rounds=rounds)
    return load_target(path, target_settings(config), place)
