"""The page about SLOs: ordered batches, batches by deadlines, and promises."""

from __future__ import annotations

from verifier.reproduction.page import Page, Part, Table
from verifier.reproduction.slo_batches.arms import ARMS, MAX_LENGTH
from verifier.reproduction.slo_batches.claims import capacity, slo_claims
from verifier.reproduction.slo_batches.figures import SloFigures
from verifier.reproduction.slo_batches.world import (
    ACCEPTANCES,
    FIXED_MILLISECONDS,
    ROUND_TRIPS,
    SECONDS,
    SLO_MILLISECONDS,
    SPEEDS,
    TOKEN_MILLISECONDS,
)

PICTURE = "slo.svg"


def slo_page(figures: SloFigures, command: str) -> Page:
    """Claims, and the figures behind them."""
    return Page(
        title="Ordered batches, batches by deadlines, and promises",
        command=command,
        summary=(
            "DiP-SD (arXiv 2604.20919) checks drafts in ordered batches, a pipeline of devices and "
            "target; WISP (arXiv 2601.11652) in batches by deadlines. Both are laid beside our "
            "planner, which promises tokens in time ([scheduling](../scheduling.md)). All figures "
            f"are simulated, {figures.num_seeds} seeds, the same worlds for every arm: mean "
            "(least … most). A token is in time if a reader at the pace of the SLO need not wait "
            "for it; it is counted when the round that commits it is over."
        ),
        claims=slo_claims(figures),
        parts=(
            Part("Tokens in time", _IN_TIME_TEXT, _in_time(figures), PICTURE),
            Part("Tokens in time a second", _PER_SECOND_TEXT, _per_second(figures)),
            Part("The wait for the first token", _FIRST_TEXT, _first_token(figures)),
            Part("By class", _CLASS_TEXT, _by_class(figures)),
            Part("The arms", _ARMS_TEXT, _arms(figures)),
            Part("The world and its constants", _CONSTANTS_TEXT, _constants()),
        ),
    )


_IN_TIME_TEXT = (
    "Percent of all tokens behind streams' first ones, by the number of devices. *Capacity*: the "
    "most devices of which 95 % are in time."
)
_PER_SECOND_TEXT = "Those tokens, and all tokens, a second."
_FIRST_TEXT = (
    "Seconds from asking to the first token, median and 95th percentile, means over seeds. A "
    "stream that waits for its promise waits here and nowhere else."
)
_CLASS_TEXT = "Percent of tokens in time at the largest number of devices."
_ARMS_TEXT = (
    "Streams of all arms but the target alone and ours wait for every verdict before they draft "
    f"on. Their draft lengths (up to {MAX_LENGTH}) are the best for their own board and link, "
    "acceptance being told; DiP-SD plans its own."
)
_CONSTANTS_TEXT = (
    "Fixed before any arm was played, but for the length of a run (40 s at first, cut to 30 s for "
    "time alone). DiP-SD gives formulas but no device constants, and its plan "
    "knows neither SLOs nor streams that come and go: it is made once for all devices, with true "
    "rates, and a batch does not wait for a device without a stream. Its check is padded to the "
    "longest draft of a batch; here it is not, for our rounds are not. Of WISP the abstract alone "
    "is known: that its scheduler goes by SLOs and an estimate of a check's time (exact here). "
    "Its control of drafting is left out, and whether it turns requests away is not known."
)


def _in_time(figures: SloFigures) -> Table:
    rows = []
    for arm in ARMS:
        cells = [
            f"{100 * row.in_time.mean:.1f} ({100 * row.in_time.least:.1f} … "
            f"{100 * row.in_time.most:.1f})"
            for row in figures.all_of(arm)
        ]
        rows.append((arm, *cells, str(capacity(figures, arm) or "–")))
    return Table(("arm", *map(str, figures.num_devices), "capacity"), tuple(rows))


def _per_second(figures: SloFigures) -> Table:
    return Table(
        ("arm", *map(str, figures.num_devices)),
        tuple(
            (
                arm,
                *[
                    f"{row.in_time_per_second.number(0)}, in all {row.tokens_per_second.mean:.0f}"
                    for row in figures.all_of(arm)
                ],
            )
            for arm in ARMS
        ),
    )


def _first_token(figures: SloFigures) -> Table:
    return Table(
        ("arm", *map(str, figures.num_devices)),
        tuple(
            (
                arm,
                *[
                    f"{row.first_token_p50_seconds.mean:.2f}, "
                    f"{row.first_token_p95_seconds.mean:.2f}"
                    for row in figures.all_of(arm)
                ],
            )
            for arm in ARMS
        ),
    )


def _by_class(figures: SloFigures) -> Table:
    rows = []
    for arm in ARMS:
        row = figures.of(figures.num_devices[-1], arm)
        shares = [f"{100 * row.in_time_by_class[name].mean:.1f}" for name in SLO_MILLISECONDS]
        rows.append((arm, *shares, f"{100 * row.streams_kept.mean:.1f}"))
    header = [f"{name}, {slo:g} ms" for name, slo in SLO_MILLISECONDS.items()]
    return Table(("arm", *header, "streams with 95 % in time"), tuple(rows))


def _arms(figures: SloFigures) -> Table:
    plans = "; ".join(
        f"{count} devices: batches of {' + '.join(str(len(batch)) for batch in plan.batches)}, "
        f"lengths {min(plan.lengths)} to {max(plan.lengths)}"
        for count, plan in figures.plans.items()
    )
    return Table(
        ("arm", "what it is"),
        (
            ("target alone", "no drafts: our planner's continuous batch"),
            ("no batches", "speculation, one draft after the other"),
            ("greedy batches", "speculation, all drafts that wait in one check, as SLED"),
            ("ordered batches", f"DiP-SD's plan; of the first seed: {plans}"),
            (
                "deadline batches",
                "after WISP: the earliest deadline first, as many as leave each of them in time; "
                "what is late anyway goes last",
            ),
            ("ours, no SLO", "`rate`, which knows no SLO"),
            ("ours", "`rate` with promises: admission, the earliest deadline first, short rounds"),
        ),
    )


def _constants() -> Table:
    def listed(values: tuple[float, ...]) -> str:
        return ", ".join(f"{value:g}" for value in values)

    return Table(
        ("constant", "value", "from"),
        (
            (
                "round",
                f"{FIXED_MILLISECONDS:g} ms + {TOKEN_MILLISECONDS:g} ms a token",
                "ours: a token takes 5 % of an empty round",
            ),
            ("draft tokens a second", listed(SPEEDS), "ours: Raspberry Pi 4 and 5, Jetson"),
            ("acceptance", listed(ACCEPTANCES), "ours; DiP-SD measured 0.78"),
            ("round trip, ms", listed(ROUND_TRIPS), "ours"),
            ("SLO, ms a token", listed(tuple(SLO_MILLISECONDS.values())), "ours, a third each"),
            ("chats", "200 tokens, 1 to 3 s between them", "ours"),
            ("time", f"{SECONDS:g} s, devices join within 4 s", "ours"),
        ),
    )
