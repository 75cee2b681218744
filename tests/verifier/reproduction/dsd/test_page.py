"""The page about DSD: verdicts follow the figures, and these do not hang on who plays the jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import pytest

from verifier.reproduction.dsd.arms import ARMS, Job, play_job
from verifier.reproduction.dsd.cells import CELLS, TARGETS, Cell, setting_of
from verifier.reproduction.dsd.claims import dsd_claims
from verifier.reproduction.dsd.figures import RIVALS, DsdFigures, Sweep, dsd_figures
from verifier.reproduction.dsd.page import dsd_page
from verifier.reproduction.page import markdown
from verifier.reproduction.spread import Spread
from verifier.sim.many_verifiers.outcome import ManyOutcome
from verifier.sim.many_verifiers.setting import TargetKind

QUICK = TargetKind("quick", 0.020, 0.0001, 0.00001)
SMALL = Sweep(
    cells=(Cell("CNN/DailyMail", 8, 0.01),),
    targets=(QUICK, QUICK.slower("scaled", 1.5)),
    round_trips=(0.01,),
    seconds=8.0,
    warm_up_seconds=1.0,
    crossing_devices=8,
)


@pytest.fixture(scope="module")
def figures() -> DsdFigures:
    parts: list[float] = []
    made = dsd_figures(1, parts.append, sweep=SMALL)
    assert (sorted(parts), 1.0) == (parts, parts[-1])
    return made


def test_there_are_the_twelve_cells_of_the_paper() -> None:
    assert 12 == len(CELLS) == len(set(CELLS))
    assert 20 == len(TARGETS)
    assert {600, 1000} == {setting_of(cell).num_devices for cell in CELLS}


def test_figures_are_the_same_whoever_plays_the_jobs(figures: DsdFigures) -> None:
    def backwards(jobs: Sequence[Job]) -> Iterator[ManyOutcome]:
        return reversed([play_job(job) for job in reversed(jobs)])

    again = dsd_figures(1, lambda part: None, backwards, SMALL)
    assert msgspec.json.encode(figures) == msgspec.json.encode(again)


def test_the_page_has_every_cell_arm_and_claim(figures: DsdFigures) -> None:
    text = markdown(dsd_page(figures, "goodspeed-verifier reproduce dsd"))
    for cell in SMALL.cells:
        assert f"| {cell.name} |" in text
    for arm in ARMS:
        assert f"| {arm} |" in text
    for claim in dsd_claims(figures):
        assert f"| {claim.says} |" in text


def test_ours_is_claimed_only_where_every_aim_is_met(figures: DsdFigures) -> None:
    def verdict(over_awc: float, over_alone: float, p95: float) -> str:
        def spread(value: float) -> Spread:
            return Spread(value, value, value, 2)

        arms = tuple(
            msgspec.structs.replace(
                row,
                over={
                    rival: spread(over_alone if rival == "target alone" else over_awc)
                    for rival in RIVALS
                },
                p95_over_awc=spread(p95),
            )
            if row.arm == "ours"
            else row
            for row in figures.arms
        )
        return dsd_claims(msgspec.structs.replace(figures, arms=arms))[-1].verdict

    verdicts = [
        verdict(0.2, 0.1, -0.1),
        verdict(0.1, 0.1, -0.1),
        verdict(0.2, -0.05, -0.1),
        verdict(0.2, 0.1, 0.1),
        verdict(-0.1, 0.1, -0.1),
    ]
    assert ["reproduced", "in part", "in part", "in part", "not"] == verdicts
