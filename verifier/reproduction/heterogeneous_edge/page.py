"""The page about heterogeneous edge networks."""

from __future__ import annotations

from verifier.reproduction.heterogeneous_edge.arms import ARMS
from verifier.reproduction.heterogeneous_edge.claims import edge_claims
from verifier.reproduction.heterogeneous_edge.figures import (
    PAIRS,
    PAPER_PAIRS,
    PROMPT_TOKEN_BITS,
    EdgeFigures,
    Pair,
)
from verifier.reproduction.heterogeneous_edge.scenario import EdgeScenario, StationSection
from verifier.reproduction.heterogeneous_edge.stations import measured_efficiency
from verifier.reproduction.page import Page, Part, Table

PICTURE = "heterogeneous-edge.svg"


def edge_page(figures: EdgeFigures, command: str) -> Page:
    """Claims, and the figures behind them."""
    return Page(
        title="Heterogeneous edge networks (arXiv 2510.11331), reproduced",
        command=command,
        summary=(
            "Users of one cell upload prompts to a small base station, which drafts; a large one "
            "checks, in a two-stage pipeline over batches. All figures are simulated, over "
            f"{figures.num_seeds} seeds: mean (least … most). The users of a seed are the same for "
            "every arm. What the paper does not give is ours and stands below. Decoding hardly "
            "depends on the seed, because every answer is taken to be as long as the longest."
        ),
        claims=edge_claims(figures),
        parts=(
            Part("The arms", picture=PICTURE, table=_arms(figures), text=_ARMS_TEXT),
            Part("Bits of a prompt token", _BITS_TEXT, _bandwidth(figures)),
            Part("Cutting the queue", _CUT_TEXT, _batching(figures)),
            Part("Acceptance rates", _ACCEPTANCE_TEXT, _acceptance(figures)),
            Part("The model and its constants", _constants_text(), _constants()),
        ),
    )


_ARMS_TEXT = (
    "Seconds from the first bit sent to the last token, K = 100, 20 MHz, in brackets by which part "
    "the joint plan is shorter. Every arm takes its best draft length but *fixed length* (7). "
    "*Static* batches have 8 requests. *Autoregressive* is the large station alone with room for "
    "everything, as the paper assumes; *same memory* holds its batches to what the small one's "
    "memory holds. tinyllama-1.1b is llama-1.1b with the few key/value heads that it really has, "
    "an eighth of the cache that the paper's formula gives it."
)
_BITS_TEXT = (
    "By which part optimal shares shorten upload and decoding together against equal ones, "
    "K = 100, 25 MHz."
)
_CUT_TEXT = (
    "By which part the exact cut is shorter, by users and by how many times slower the small "
    "station is than its data sheet lets expect."
)
_ACCEPTANCE_TEXT = "By which part the joint plan is shorter than the large station alone, K = 100."


def _arms(figures: EdgeFigures) -> Table:
    rows = []
    for arm in ARMS:
        cells = [figures.arm(pair, arm) for pair in PAIRS]
        rows.append(
            (
                arm,
                *[
                    f"{c.seconds.mean:.1f}"
                    + ("" if arm == "joint" else f" ({c.joint_change.percent().split(' (')[0]})")
                    for c in cells
                ],
            )
        )
    chosen = [figures.arm(pair, "joint").example for pair in PAIRS]
    rows.append(("joint: draft length", *[str(plan.draft_length) for plan in chosen]))
    rows.append(
        ("joint: batches, first seed", *[" + ".join(map(str, p.batch_sizes)) for p in chosen])
    )
    return Table(("arm", *map(_pair_name, PAIRS)), tuple(rows))


def _bandwidth(figures: EdgeFigures) -> Table:
    rows = []
    for bits in PROMPT_TOKEN_BITS:
        of_bits = [row for row in figures.bandwidth if row.prompt_token_bits == bits]
        changes = [row.total_change.percent() for row in of_bits]
        rows.append((f"{bits:,.0f}", of_bits[0].upload_seconds.number(3), *changes))
    header = ("bits", "upload, optimal, s", *map(_pair_name, PAPER_PAIRS))
    return Table(header, tuple(rows))


def _batching(figures: EdgeFigures) -> Table:
    return Table(
        ("pair", "slower", "K", "against maximal", "against heuristic"),
        tuple(
            (
                _pair_name(row.pair),
                f"{row.small_slowness:g}",
                str(row.num_users),
                row.maximal_change.percent(),
                row.heuristic_change.percent(),
            )
            for row in figures.batching
        ),
    )


def _acceptance(figures: EdgeFigures) -> Table:
    return Table(
        ("pair", "acceptance", "against room for all", "against the same memory"),
        tuple(
            (
                _pair_name(row.pair),
                f"{row.acceptance:g}",
                row.autoregressive_change.percent(),
                row.same_memory_change.percent(),
            )
            for row in figures.acceptance
        ),
    )


def _constants_text() -> str:
    efficiency = measured_efficiency()
    return (
        "A step of b requests takes c1·F·b + c2 (c1: time of a FLOP; F: FLOP of the matrix "
        "products of a token, with its look back). The paper's c1 and c2 are not known; ours are "
        "what data sheets allow, "
        f"times {efficiency.of_flops:.2f} for products and {efficiency.of_bytes:.2f} for reading "
        "weights, the parts that our own rounds reached on an H200 (tests/benchmarks/RESULTS.md). "
        "A batch is padded to its longest prompt and runs until the longest answer is written, "
        "⌈O / E(l)⌉ stages with E(l) = (1 − α^(l+1)) / (1 − α). Reading prompts, the way down and "
        "the line between the stations are left out, as in the paper. The cut of the queue is "
        "exact: it keeps every partial cut that no other beats in both sums of stage times and in "
        "its longest batch; tests hold it against all cuts of 1,000 random queues."
    )


def _constants() -> Table:
    scenario = EdgeScenario()
    cell, requests = scenario.cell, scenario.requests
    rows = [
        ("users, radius", f"{cell.users} within {cell.radius_metres:g} m", "paper"),
        ("B, P, noise", "20 or 25 MHz, 0.2 W, −106 dBm", "paper"),
        ("path loss", "128.1 + 37.6 log10(km) dB, no shadowing, 35 m at least", "3GPP TR 36.814"),
        (
            "prompt, answer",
            f"1 to {requests.max_input_tokens}, {requests.max_output_tokens} tokens",
            "paper",
        ),
        ("acceptance", f"{requests.acceptance:g}, l up to 10", "paper"),
        (
            "small, large station",
            "RTX 3080, 16 GB allowed; RTX 4500 (Ada)",
            "paper; the 3080 has 10",
        ),
    ]
    for pair in PAIRS:
        stations = StationSection(draft_model=pair[0], target_model=pair[1])
        for role, time in (("draft", stations.drafting), ("check", stations.checking)):
            rows.append(
                (
                    f"{_pair_name(pair)}, {role}",
                    f"c1 {1e15 * time.seconds_per_flop:.1f} fs, "
                    f"c2 {1e3 * time.fixed_seconds:.2f} ms",
                    "data sheet × measured part",
                )
            )
    return Table(("constant", "value", "from"), tuple(rows))


def _pair_name(pair: Pair) -> str:
    return f"{pair[0]} / {pair[1]}"
