"""The draft model's file: each state of it, and what mends it."""

from __future__ import annotations

import pytest

from edge_agent.doctor.model_findings import ModelFacts, model_finding
from shared.doctor.findings import Finding, ok, problem

WHOLE = {"quantisation": "Q4_1", "file_bytes": 98_362_432}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (ModelFacts(""), ok("model", "no draft model: n-grams alone draft")),
        (
            ModelFacts("tiny", has_checksum=True, **WHOLE),  # type: ignore[arg-type]
            ok("model", "tiny, Q4_1, 98 MB: its sha256 is right"),
        ),
        (
            ModelFacts("./tiny.gguf", **WHOLE),  # type: ignore[arg-type]
            ok("model", "./tiny.gguf, Q4_1, 98 MB: whole; no checksum of it is known"),
        ),
        (
            ModelFacts("tiny", fault="it is damaged", can_be_pulled=True),
            problem("model", "it is damaged", "goodspeed-agent model pull tiny"),
        ),
        (
            ModelFacts("./tiny.gguf", fault="it is cut"),
            problem(
                "model",
                "it is cut",
                "copy the file again, or set draft.model to one of `goodspeed-agent model ls`",
            ),
        ),
    ],
)
def test_the_model(facts: ModelFacts, expected: Finding) -> None:
    assert expected == model_finding(facts)
