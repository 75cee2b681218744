"""The page about DSD."""

from __future__ import annotations

from verifier.reproduction.dsd.arms import ARMS
from verifier.reproduction.dsd.cells import TARGETS, WORKLOADS
from verifier.reproduction.dsd.claims import dsd_claims
from verifier.reproduction.dsd.figures import CROSSING_ARMS, DsdFigures
from verifier.reproduction.page import Page, Part, Table

PICTURE = "dsd.svg"


def dsd_page(figures: DsdFigures, command: str) -> Page:
    """Claims, and the figures behind them."""
    return Page(
        title="DSD (arXiv 2511.21669), reproduced",
        command=command,
        summary=(
            "Twenty verifiers and 600 or 1,000 devices that draft for them. All figures are "
            f"simulated, {figures.num_seeds} seeds, the same devices and texts for every arm: mean "
            "(least … most). Arms are DSD's but for ours and those called *ahead*: a stream waits "
            "until its own draft is there. "
            "The paper's tables are known in part only; round times, arrivals, lengths and "
            "acceptance are ours and stand below."
        ),
        claims=dsd_claims(figures),
        parts=(
            Part("The twelve cells", _CELLS_TEXT, _cells(figures), PICTURE),
            Part("What each arm does", "Means over all cells.", _arms(figures)),
            Part("Round trips", _CROSSING_TEXT, _crossing(figures)),
            Part("The model and its constants", _MODEL_TEXT, _constants(figures)),
        ),
    )


_CELLS_TEXT = (
    "Tokens/s of a device while it has a request open, geometric mean over devices, over static "
    "windows of 4. For ours over AWC too, with the 95th percentile of seconds per token and the "
    "mean time to the first token over AWC's."
)
_CROSSING_TEXT = (
    "GSM8K, 600 devices: tokens/s of a device over the target alone, by round trip; in brackets "
    "the part of stream-rounds without a draft. At most three seeds."
)
_MODEL_TEXT = (
    "A round takes a fixed time, and more for every token and prompt token; the H100 class has a "
    "round figure within the paper's range, the others are scaled, not measured. A device asks "
    "again 0.5 to 1.5 s after an answer; requests go to the shortest queue, ours to the verifier "
    "where they delay least. Rounds are not padded, so batches are first come, first served for "
    "all: length-aware ones, AWC's own, would only split them. AWC leaves fused mode after two "
    "verdicts at which its smoothed output is 2 or more: the paper does not give a rule. *Awc* has "
    "the paper's five inputs, *awc, 8 inputs* the board's speed, the time of a round and by how "
    "much drafts lengthen it beside them. *Ahead*: the window is DSD's and its streams wait, those "
    'of the arm do not; the last of these is `rounds.policy = "awc"` of the running verifier. A '
    "network that had learnt from settled windows alone, and from means over devices, lost "
    "to static windows: it took the slow tokens that its own long windows caused for those of a "
    "slow verifier. So half of what ours learn from are devices whose windows change. *Ours, jsq* "
    "shows what of ours is not its routing, *ours, placement* routes as a verifier does over "
    "many workers (`verifier/placement`: log goodput). Throughput is tokens/s of all devices "
    "together."
)


def _cells(figures: DsdFigures) -> Table:
    rows = []
    for cell in dict.fromkeys(row.cell for row in figures.arms):
        ours = figures.of(cell, "ours")
        rows.append(
            (
                cell.name,
                *[
                    figures.of(cell, arm).over["static 4"].percent(0).split(" (")[0]
                    for arm in ARMS
                    if arm != "static 4"
                ],
                ours.over["awc"].percent(),
                ours.p95_over_awc.percent(0).split(" (")[0],
                ours.first_token_over_awc.percent(0).split(" (")[0],
            )
        )
    names = [arm for arm in ARMS if arm != "static 4"]
    header = ("cell", *names, "ours over AWC", "p95 TPOT", "TTFT")
    return Table(header, tuple(rows))


def _arms(figures: DsdFigures) -> Table:
    rows = []
    for arm in ARMS:
        of_arm = figures.all_of(arm)
        count = len(of_arm)
        accepted = [row.acceptance for row in of_arm if row.acceptance is not None]
        rows.append(
            (
                arm,
                f"{sum(row.tokens_per_second.mean for row in of_arm) / count:,.0f}",
                f"{1e3 * sum(row.token_seconds.mean for row in of_arm) / count:.0f}",
                f"{1e3 * sum(row.token_p95_seconds.mean for row in of_arm) / count:.0f}",
                f"{1e3 * sum(row.first_token_seconds.mean for row in of_arm) / count:.0f}",
                f"{sum(row.mean_window for row in of_arm) / count:.2f}",
                f"{100 * sum(row.fused_part for row in of_arm) / count:.0f} %",
                f"{100 * sum(accepted) / len(accepted):.0f} %" if accepted else "–",
                f"{100 * sum(row.utilisation for row in of_arm) / count:.0f} %",
            )
        )
    header = (
        *("arm", "tokens/s in all", "TPOT ms", "p95 TPOT ms", "TTFT ms", "tested tokens"),
        *("without a draft", "accepted", "verifiers busy"),
    )
    return Table(header, tuple(rows))


def _crossing(figures: DsdFigures) -> Table:
    rows = []
    for seconds in dict.fromkeys(row.round_trip_seconds for row in figures.crossing):
        here = {r.arm: r for r in figures.crossing if r.round_trip_seconds == seconds}
        rows.append(
            (
                f"{1e3 * seconds:g}",
                *[
                    f"{here[arm].over_alone.percent()} [{100 * here[arm].fused_part:.0f} %]"
                    for arm in CROSSING_ARMS[1:]
                ],
            )
        )
    return Table(("round trip ms", *CROSSING_ARMS[1:]), tuple(rows))


def _constants(figures: DsdFigures) -> Table:
    rows = []
    for kind in dict.fromkeys(TARGETS):
        rows.append(
            (
                f"{TARGETS.count(kind)} × {kind.name}",
                f"{1e3 * kind.fixed_seconds:g} ms, {1e3 * kind.token_seconds:.2f} ms a token, "
                f"{1e3 * kind.prompt_token_seconds:.2f} ms a prompt token",
            )
        )
    for workload in WORKLOADS:
        prompt, output, rates = workload.prompt_tokens, workload.output_tokens, workload.acceptance
        rows.append(
            (
                workload.name,
                f"prompts of {prompt[0]} to {prompt[1]}, answers of {output[0]} to {output[1]} "
                f"tokens, acceptance {rates[0]:g} to {rates[1]:g}",
            )
        )
    rows.append(("drafts", "25, 40 or 60 tokens/s (7B on A40 and V100), messages ± 10 %"))
    for name, file in figures.training.items():
        rows.append((f"weights of {name}", f"`{file.command}`"))
    return Table(("constant", "value"), tuple(rows))
