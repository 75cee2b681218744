"""Whether the draft model is here and whole. Pure."""

from __future__ import annotations

import msgspec

from shared.doctor.findings import Finding, ok, problem


class ModelFacts(msgspec.Struct, frozen=True):
    """What was found where the settings say that the model is."""

    name: str  # draft.model
    fault: str | None = None  # the sentence why it cannot be used
    has_checksum: bool = False  # it has one, and it is right
    quantisation: str = ""
    file_bytes: int = 0
    can_be_pulled: bool = False


def model_finding(facts: ModelFacts) -> Finding:
    """The model of draft.model; empty: none is wanted."""
    if not facts.name:
        return ok("model", "no draft model: n-grams alone draft")
    if facts.fault is not None:
        remedy = (
            f"goodspeed-agent model pull {facts.name}"
            if facts.can_be_pulled
            else "copy the file again, or set draft.model to one of `goodspeed-agent model ls`"
        )
        return problem("model", facts.fault, remedy)
    checked = "its sha256 is right" if facts.has_checksum else "whole; no checksum of it is known"
    size = f"{facts.file_bytes / 1e6:.0f} MB"
    return ok("model", f"{facts.name}, {facts.quantisation}, {size}: {checked}")
