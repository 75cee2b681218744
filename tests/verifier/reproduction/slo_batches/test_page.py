"""The page is made of figures: verdicts follow them, and every table is whole."""

from __future__ import annotations

import msgspec
import pytest

from verifier.reproduction.page import markdown
from verifier.reproduction.slo_batches import world
from verifier.reproduction.slo_batches.arms import ARMS
from verifier.reproduction.slo_batches.claims import capacity, slo_claims
from verifier.reproduction.slo_batches.figures import SloFigures, slo_figures
from verifier.reproduction.slo_batches.page import slo_page
from verifier.reproduction.spread import Spread


@pytest.fixture(scope="module")
def figures() -> SloFigures:
    parts: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "SECONDS", 6.0)
        made = slo_figures(2, parts.append, num_devices=(12, 24))
    assert (sorted(parts), 1.0) == (parts, parts[-1])
    return made


def changed(figures: SloFigures, in_time: float) -> SloFigures:
    """The same but for what part of our tokens is in time."""
    share = Spread(in_time, in_time, in_time, 2)
    arms = [
        msgspec.structs.replace(arm, in_time=share) if arm.arm == "ours" else arm
        for arm in figures.arms
    ]
    return msgspec.structs.replace(figures, arms=tuple(arms))


def test_every_arm_is_played_in_every_world(figures: SloFigures) -> None:
    keys = {(arm.num_devices, arm.arm) for arm in figures.arms}
    assert keys == {(count, name) for count in (12, 24) for name in ARMS}
    assert all(arm.in_time.num_seeds == 2 for arm in figures.arms)


def test_the_page_has_every_claim_and_every_arm(figures: SloFigures) -> None:
    text = markdown(slo_page(figures, "goodspeed-verifier reproduce slo"))
    for claim in slo_claims(figures):
        assert f"| {claim.says} | {claim.paper} |" in text
    assert all(text.count(f"\n| {arm} |") == 5 for arm in ARMS)
    assert "nan" not in text


def test_a_promise_that_is_not_kept_is_told(figures: SloFigures) -> None:
    kept = [claim.verdict for claim in slo_claims(changed(figures, 0.96)) if "keeps" in claim.says]
    broken = [claim.verdict for claim in slo_claims(changed(figures, 0.2)) if "keeps" in claim.says]
    assert (["reproduced"], ["not"]) == (kept, broken)


def test_capacity_is_the_most_devices_whose_tokens_are_in_time(figures: SloFigures) -> None:
    assert 24 == capacity(changed(figures, 0.95), "ours")
    assert 0 == capacity(changed(figures, 0.94), "ours")
