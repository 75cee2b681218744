"""What the paper on heterogeneous edge networks claims, judged by our figures.

Its figures are those of a note made from the paper's text (arXiv 2510.11331).
"""

from __future__ import annotations

from verifier.reproduction.heterogeneous_edge.figures import (
    PAPER_PAIRS,
    BatchingFigures,
    EdgeFigures,
    Pair,
)
from verifier.reproduction.page import Claim, verdict_of

# What optimal shares of bandwidth take off the total, by pair (K = 100, 25 MHz).
PAPER_BANDWIDTH: dict[Pair, float] = dict(zip(PAPER_PAIRS, (-0.449, -0.293, -0.252), strict=True))
PAPER_PIPELINE = -0.316
PAPER_MAXIMAL = -0.214
PAPER_HEURISTIC = -0.196
AIM_UPLOAD = -0.50


def edge_claims(figures: EdgeFigures) -> tuple[Claim, ...]:
    """All of them, in the paper's order."""
    return (
        _autoregressive(figures),
        _pipeline(figures),
        _batching(
            figures.batching,
            "maximal",
            PAPER_MAXIMAL,
            "where memory holds all requests at once, the largest batch leaves nothing to overlap, "
            "and cutting it helps as far as drafting takes long; where memory cuts anyway, rounds "
            "wait for weights and not for padding",
        ),
        _batching(
            figures.batching,
            "heuristic",
            PAPER_HEURISTIC,
            "the paper does not define its heuristic; ours lets a request join as long as the "
            "batch's time for each request falls",
        ),
        _upload(figures),
        _bandwidth(figures),
    )


def _name(pair: Pair) -> str:
    return f"{pair[0].removeprefix('llama-')}/{pair[1].removeprefix('llama-')}".upper()


def _autoregressive(figures: EdgeFigures) -> Claim:
    rows = figures.acceptance
    wins = [row for row in rows if row.autoregressive_change.most < 0.0]
    wins_bounded = [row for row in rows if row.same_memory_change.most < 0.0]
    lost = [f"{_name(row.pair)} at {row.acceptance:g}" for row in rows if row not in wins]
    reason = (
        "the paper gives the large station room for all requests: then it decodes them in one "
        "batch, while the small one's memory cuts the drafts into several"
        if lost
        else "at every acceptance rate"
    )
    return Claim(
        says="shorter than autoregressive decoding for all pairs and acceptance rates",
        paper="no figures known",
        ours=f"in {len(wins)} of {len(rows)} cases; in {len(wins_bounded)} of {len(rows)} where "
        "the large station's batches are held to the small one's memory",
        verdict=verdict_of(holds=not lost, holds_somewhere=len(wins_bounded) == len(rows)),
        reason=reason,
    )


def _pipeline(figures: EdgeFigures) -> Claim:
    pair = PAPER_PAIRS[1]
    change = figures.arm(pair, "no pipeline").joint_change
    others = ", ".join(
        f"{_name(other)} {figures.arm(other, 'no pipeline').joint_change.percent()}"
        for other in PAPER_PAIRS
        if other != pair
    )
    return Claim(
        says="the pipeline shortens the whole, pair 1.1B/7B",
        paper="−31.6 %",
        ours=f"{change.percent()}; {others}",
        verdict=verdict_of(holds=change.mean <= PAPER_PIPELINE, holds_somewhere=change.most < 0.0),
        reason="overlap is worth what drafting takes of a stage; with a draft of 68M that is "
        "nothing, and one batch is best with a pipeline or without",
    )


def _batching(rows: tuple[BatchingFigures, ...], rival: str, paper: float, reason: str) -> Claim:
    def change(row: BatchingFigures) -> float:
        return (row.maximal_change if rival == "maximal" else row.heuristic_change).mean

    as_is = min(change(row) for row in rows if row.small_slowness == 1.0)
    best = min(rows, key=change)
    return Claim(
        says=f"the dynamic programme beats {rival} batching",
        paper=f"up to {_percent(paper)}",
        ours=f"up to {_percent(as_is)} with stations as their data sheets have them; up to "
        f"{_percent(change(best))} where the small one is {best.small_slowness:g} times slower "
        f"(K = {best.num_users}, {best.pair[0]})",
        verdict=verdict_of(holds=as_is <= paper, holds_somewhere=change(best) < -0.01),
        reason=reason,
    )


def _upload(figures: EdgeFigures) -> Claim:
    change = figures.bandwidth[0].upload_change
    return Claim(
        says="optimal shares of bandwidth shorten the upload (K = 100, 25 MHz)",
        paper="not given",
        ours=change.percent(),
        verdict=verdict_of(holds=change.mean <= AIM_UPLOAD, holds_somewhere=change.mean < 0.0),
        reason="the closed form is optimal (a test holds it against a numeric optimiser), and "
        "prompts and path losses differ widely; our own aim is −50 %",
    )


def _bandwidth(figures: EdgeFigures) -> Claim:
    """Of the total, which hangs on how many bits a prompt token has."""
    text_bits = figures.bandwidth[0].prompt_token_bits
    of_text, needed = [], []
    for pair, paper in PAPER_BANDWIDTH.items():
        rows = [row for row in figures.bandwidth if row.pair == pair]
        of_text.append(rows[0].total_change)
        bits = next((row.prompt_token_bits for row in rows if row.total_change.mean <= paper), None)
        needed.append(f"{_name(pair)} never" if bits is None else f"{_name(pair)} {bits:,.0f}")
    holds = all(
        change.mean <= paper
        for change, paper in zip(of_text, PAPER_BANDWIDTH.values(), strict=True)
    )
    return Claim(
        says="and with it the total, 68M/7B, 1.1B/7B, 1.1B/13B",
        paper="−44.9 / −29.3 / −25.2 %",
        ours=" / ".join(f"{100.0 * change.mean:+.2f} %" for change in of_text).replace("-", "−")
        + f" with text ({text_bits:g} bit a token)",
        verdict=verdict_of(holds=holds, holds_somewhere=all("never" not in n for n in needed)),
        reason="text is nothing beside minutes of decoding; the paper does not say how many bits "
        f"a prompt token has. Its figures are met from, in bits: {'; '.join(needed)}",
    )


def _percent(part: float) -> str:
    return f"{round(100.0 * part, 1) + 0.0:+.1f} %".replace("-", "−")
