"""Pages of claims as Markdown, and figures over seeds as words."""

from __future__ import annotations

from verifier.reproduction.page import Claim, Page, Part, Table, markdown, verdict_of
from verifier.reproduction.spread import changes, spread_of


def test_a_page_says_in_one_look_what_holds() -> None:
    page = Page(
        title="A paper",
        command="goodspeed-verifier reproduce it",
        summary="Simulated.",
        claims=(Claim("fast", "2 ×", "1.9 ×", "in part", "slow | links"),),
        parts=(Part("Figures", "Seconds.", Table(("a", "b"), (("1", "2"),)), "it.svg"),),
    )
    lines = markdown(page).splitlines()
    assert "# A paper" == lines[0]
    assert "`goodspeed-verifier reproduce it`" in lines[2]
    assert "| fast | 2 × | 1.9 × | **in part** | slow \\| links |" in lines
    assert lines.index("![Figures](it.svg)") < lines.index("| 1 | 2 |")


def test_a_verdict_is_what_holds() -> None:
    assert "reproduced" == verdict_of(holds=True)
    assert "in part" == verdict_of(holds=False, holds_somewhere=True)
    assert "not" == verdict_of(holds=False)


def test_spreads_are_of_pairs() -> None:
    assert "−25.0 % (−50.0 … +0.0)" == changes([1.0, 3.0], [2.0, 3.0]).percent()
    assert "+0.0 % (+0.0 … +0.0)" == changes([1.0], [1.0 + 1e-9]).percent()
    assert "1.50 (−1.00 … 4.00)" == spread_of([-1.0, 4.0]).number(2)
