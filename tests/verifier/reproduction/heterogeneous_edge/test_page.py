"""The page is made of figures: verdicts follow them, and every table is whole."""

from __future__ import annotations

import msgspec
import pytest

from verifier.reproduction.heterogeneous_edge.claims import edge_claims
from verifier.reproduction.heterogeneous_edge.figures import (
    PAIRS,
    PROMPT_TOKEN_BITS,
    EdgeFigures,
    Sweep,
    edge_figures,
)
from verifier.reproduction.heterogeneous_edge.page import edge_page
from verifier.reproduction.page import markdown
from verifier.reproduction.spread import Spread

SMALL = Sweep(num_users=12, acceptances=(0.8,), batching_users=(9,))


@pytest.fixture(scope="module")
def figures() -> EdgeFigures:
    parts: list[float] = []
    made = edge_figures(2, parts.append, SMALL)
    assert (sorted(parts), 1.0) == (parts, parts[-1])
    return made


def test_figures_are_a_function_of_the_seeds(figures: EdgeFigures) -> None:
    again = edge_figures(2, lambda part: None, SMALL)
    assert msgspec.json.encode(figures) == msgspec.json.encode(again)


def test_the_page_has_every_claim_and_every_bit(figures: EdgeFigures) -> None:
    text = markdown(edge_page(figures, "goodspeed-verifier reproduce heterogeneous-edge"))
    for claim in edge_claims(figures):
        assert f"| {claim.says} | {claim.paper} |" in text
    for bits in PROMPT_TOKEN_BITS:
        assert f"| {bits:,.0f} |" in text
    widths = [line.count(" | ") for line in text.splitlines() if line.startswith("| arm |")]
    assert [len(PAIRS)] == widths


def test_verdicts_follow_the_figures(figures: EdgeFigures) -> None:
    def verdict(change: float) -> str:
        spread = Spread(change, change, change, 2)
        arms = tuple(
            msgspec.structs.replace(arm, joint_change=spread) if arm.arm == "no pipeline" else arm
            for arm in figures.arms
        )
        claims = edge_claims(msgspec.structs.replace(figures, arms=arms))
        return next(claim.verdict for claim in claims if "pipeline" in claim.says)

    assert ["reproduced", "in part", "not"] == [verdict(change) for change in (-0.4, -0.1, 0.1)]
