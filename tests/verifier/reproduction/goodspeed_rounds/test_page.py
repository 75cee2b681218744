"""The page about GoodSpeed: verdicts follow the figures."""

from __future__ import annotations

import msgspec
import pytest

from verifier.reproduction.goodspeed_rounds.claims import round_claims
from verifier.reproduction.goodspeed_rounds.figures import TABLE_I, RoundFigures, round_figures
from verifier.reproduction.goodspeed_rounds.page import round_page
from verifier.reproduction.page import markdown
from verifier.reproduction.spread import Spread


@pytest.fixture(scope="module")
def figures() -> RoundFigures:
    parts: list[float] = []
    made = round_figures(2, parts.append, (20, 40))
    assert (sorted(parts), 1.0) == (parts, parts[-1])
    return made


def test_figures_are_a_function_of_the_seeds(figures: RoundFigures) -> None:
    again = round_figures(2, lambda part: None, (20, 40))
    assert msgspec.json.encode(figures) == msgspec.json.encode(again)


def test_the_page_has_every_setting_and_claim(figures: RoundFigures) -> None:
    text = markdown(round_page(figures, "goodspeed-verifier reproduce goodspeed"))
    for row in TABLE_I:
        assert 2 == text.count(f"| {row.models} | {row.num_clients}, {row.budget_tokens} |")
    for claim in round_claims(figures):
        assert f"| {claim.says} |" in text


def test_convergence_is_claimed_only_where_both_aims_are_met(figures: RoundFigures) -> None:
    def verdict(mean: float, least: float) -> str:
        spread = Spread(mean, least, 1.0, 8)
        optimum = tuple(msgspec.structs.replace(o, of_optimum=spread) for o in figures.optimum)
        claims = round_claims(msgspec.structs.replace(figures, optimum=optimum))
        return next(claim.verdict for claim in claims if "converges" in claim.says)

    verdicts = [verdict(0.9995, 0.998), verdict(0.9995, 0.99), verdict(0.99, 0.98)]
    assert ["reproduced", "in part", "in part"] == verdicts
