"""What weighting by utility changes: tokens of a round on held-out texts, and a fleet's goodput.

Read by `cuda_finetune_utility`. Texts are paired: all arms answer for the same ones. Intervals draw
seeds and the texts of each domain anew; beside them stands Student's t over the seeds alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.judging.overlap import rounds_of
from shared.protocol.held_out_texts import JUDGED_MODES, JudgedMode
from verifier.finetune.recipe.recipe import FileWeights
from verifier.finetune.training.held_out_acceptance import JudgedText, mean_acceptance
from verifier.rounds.settings import RoundsSection
from verifier.sim.outcome import outcome_of
from verifier.sim.scenario import (
    PROFILE_SPEEDS,
    BoardGroup,
    ProfileName,
    Scenario,
    ScenarioSection,
    TargetSection,
)
from verifier.sim.world import play

DRAFT_LENGTHS = (4, 8)
NUM_DRAWS = 4000
T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
FLEET: tuple[ProfileName, ...] = ("pi4", "pi5", "jetson-orin-nano")  # a board of each by domain
STOCK_BYTES = 98.4e6  # of the model that the profiles' speeds were measured with
DRAFT_BYTES = 12.0e6
FLEET_SECONDS = 60.0
FLEET_SEEDS = (1, 2, 3)

Floats = NDArray[np.float64]


class Arm(msgspec.Struct, frozen=True):
    """One draft: how it was made."""

    seed: int
    utility: float
    weights: FileWeights
    steps: int

    @property
    def name(self) -> str:
        return f"seed{self.seed}-utility{self.utility:g}-{self.weights}"


class ArmTexts(msgspec.Struct, frozen=True):
    """What is accepted of a draft whose weights are kept as a kind of file."""

    arm: Arm
    kind: FileWeights
    texts: tuple[JudgedText, ...]


class Change(NamedTuple):
    """Of the logarithm of a geometric mean, arm over plain."""

    mean: float
    low: float
    high: float
    by_seed: tuple[float, ...]

    def t_interval(self) -> tuple[float, float] | None:
        """Over the seeds alone; None: there are too few."""
        if len(self.by_seed) - 1 not in T_95:
            return None
        half = T_95[len(self.by_seed) - 1] * np.std(self.by_seed, ddof=1) / len(self.by_seed) ** 0.5
        return float(self.mean - half), float(self.mean + half)


def print_tables(directory: Path, *, simulates: bool) -> None:
    """All that the files of a directory tell, as Markdown."""
    found = [
        msgspec.json.decode(path.read_bytes(), type=ArmTexts)
        for path in sorted(directory.glob("*-as-*.json"))
    ]
    trained = [one for one in found if one.arm.weights == "Q4_0" and one.kind == "Q4_0"]
    print(f"\n{trained[0].arm.steps} steps an arm, {len(trained[0].texts)} held-out texts\n")
    known = {text.mode for text in trained[0].texts}
    modes = [mode for mode in JUDGED_MODES if mode in known]
    _print_rounds(trained, modes)
    _print_kinds(found, modes)
    if simulates:
        _print_fleet(trained, modes)


def _print_rounds(trained: Sequence[ArmTexts], modes: Sequence[JudgedMode]) -> None:
    print(
        "| mode | draft | utility | tokens of a round, plain → weighted | change % | 95 % "
        "(texts and seeds) | by seed % | 95 % (t, seeds) |"
    )
    print("|---|---|---|---|---|---|---|---|")
    by_utility = _by_utility(trained)
    for mode in modes:
        for length in DRAFT_LENGTHS:
            plain = [_rounds(one.texts, mode, length) for one in by_utility[0.0]]
            for utility, arms in by_utility.items():
                if utility:
                    weighted = [_rounds(one.texts, mode, length) for one in arms]
                    _print_change(mode, length, utility, plain, weighted)


def _print_change(
    mode: str,
    length: int,
    utility: float,
    plain: Sequence[Mapping[str, Floats]],
    weighted: Sequence[Mapping[str, Floats]],
) -> None:
    found = change_of(plain, weighted)
    before, after = (
        np.exp(np.mean([_log_mean(rounds) for rounds in arms])) for arms in (plain, weighted)
    )
    by_seed = " ".join(f"{100 * change:+.2f}" for change in found.by_seed)
    interval = found.t_interval()
    t_words = "–" if interval is None else f"{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f}"
    print(
        f"| {mode} | {length} | {utility:g} | {before:.3f} → {after:.3f} | {100 * found.mean:+.2f} "
        f"| {100 * found.low:+.2f} to {100 * found.high:+.2f} | {by_seed} | {t_words} |"
    )


def _print_kinds(found: Sequence[ArmTexts], modes: Sequence[JudgedMode]) -> None:
    print("\n| trained for | kept as | utility | " + " | ".join(modes) + " | seeds |")
    print("|---|---|---|" + "---|" * (len(modes) + 1))
    rows: dict[tuple[str, str, float], list[dict[JudgedMode, float]]] = defaultdict(list)
    for one in found:
        key = (one.arm.weights, one.kind, one.arm.utility)
        rows[key].append(mean_acceptance(one.texts))
    for (weights, kind, utility), means in sorted(rows.items()):
        columns = [f"{np.mean([mean[mode] for mean in means]):.4f}" for mode in modes]
        print(f"| {weights} | {kind} | {utility:g} | {' | '.join(columns)} | {len(means)} |")


def _by_utility(trained: Sequence[ArmTexts]) -> dict[float, list[ArmTexts]]:
    found: dict[float, list[ArmTexts]] = defaultdict(list)
    for one in sorted(trained, key=lambda one: (one.arm.utility, one.arm.seed)):
        found[one.arm.utility].append(one)
    return dict(found)


def _rounds(texts: Sequence[JudgedText], mode: JudgedMode, length: int) -> dict[str, Floats]:
    """Rounds and their tokens of each text, by domain [num_texts, 2]."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for text in texts:
        if text.mode == mode:
            found[text.domain].append(rounds_of(np.array(text.acceptance), length))
    return {domain: np.array(pairs) for domain, pairs in found.items()}


def _log_mean(rounds: Mapping[str, Floats]) -> float:
    """Of the tokens of a round, over domains."""
    sums = np.array([pairs.sum(0) for pairs in rounds.values()])
    return float(np.log(sums[:, 1] / sums[:, 0]).mean())


def change_of(
    plain: Sequence[Mapping[str, Floats]], weighted: Sequence[Mapping[str, Floats]]
) -> Change:
    """Of all seeds; both sequences are in their order, and texts in the order of each domain."""
    pairs = list(zip(plain, weighted, strict=True))
    by_seed = tuple(_log_mean(after) - _log_mean(before) for before, after in pairs)
    chance = np.random.default_rng(0)
    drawn_by_seed = np.zeros((NUM_DRAWS, len(pairs)))
    domains = list(plain[0])
    for domain in domains:
        num_texts = len(plain[0][domain])
        counts = chance.multinomial(num_texts, [1 / num_texts] * num_texts, NUM_DRAWS)
        for seed, (before, after) in enumerate(pairs):
            old, new = counts @ before[domain], counts @ after[domain]
            logs = np.log(new[:, 1] / new[:, 0]) - np.log(old[:, 1] / old[:, 0])
            drawn_by_seed[:, seed] += logs / len(domains)
    seeds = chance.integers(len(pairs), size=(NUM_DRAWS, len(pairs)))
    drawn = np.take_along_axis(drawn_by_seed, seeds, 1).mean(1)
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Change(float(np.mean(by_seed)), float(low), float(high), by_seed)


def _print_fleet(trained: Sequence[ArmTexts], modes: Sequence[JudgedMode]) -> None:
    print(
        f"\nΣ ln(tokens/s) of a fleet in the simulator, {FLEET_SECONDS:g} s, {len(FLEET_SEEDS)} "
        f"fleets a seed: a board of each of {', '.join(FLEET)} for every domain\n"
    )
    print("| mode | utility | Σ log goodput by seed | over plain, by seed |")
    print("|---|---|---|---|")
    by_utility = _by_utility(trained)
    tasks = [(one, mode) for mode in modes for arms in by_utility.values() for one in arms]
    # Spawned, not forked: torch's threads do not survive that.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        sums = list(processes.map(_log_goodput, *zip(*tasks, strict=True)))
    found = dict(zip([(one.arm, mode) for one, mode in tasks], sums, strict=True))
    for mode in modes:
        plain = [found[one.arm, mode] for one in by_utility[0.0]]
        for utility, arms in by_utility.items():
            own = [found[one.arm, mode] for one in arms]
            told = " ".join(f"{number:.3f}" for number in own)
            over = " ".join(f"{a - b:+.3f}" for a, b in zip(own, plain, strict=True))
            print(f"| {mode} | {utility:g} | {told} | {over if utility else ''} |", flush=True)


def _log_goodput(one: ArmTexts, mode: JudgedMode) -> float:
    scenario = fleet_of_texts(one.texts, mode)
    found = []
    for seed in FLEET_SEEDS:
        run = msgspec.structs.replace(scenario.run, seed=seed)
        world = play(msgspec.structs.replace(scenario, run=run))
        log_goodput = outcome_of(world, world).log_goodput
        assert log_goodput is not None
        found.append(log_goodput)
    return float(np.mean(found))


def fleet_of_texts(texts: Sequence[JudgedText], mode: JudgedMode) -> Scenario:
    """Boards of all kinds for each domain, whose drafts are right where those of the texts are."""
    chance = np.random.default_rng(1)
    rates: dict[str, list[float]] = defaultdict(list)
    for text in texts:
        if text.mode == mode:
            rates[text.domain] += text.acceptance
    traces = {
        Path(domain): tuple((chance.random(len(found)) < np.array(found)).tolist())
        for domain, found in rates.items()
    }
    boards = {
        f"{domain.name}-{profile}": BoardGroup(
            draft_tokens_per_second=PROFILE_SPEEDS[profile] * STOCK_BYTES / DRAFT_BYTES,
            trace=domain,
            mode="coupled" if mode == "greedy" else "rejection",
        )
        for domain in traces
        for profile in FLEET
    }
    return Scenario(
        name=f"mixed-{mode}",
        run=ScenarioSection(seconds=FLEET_SECONDS),
        target=TargetSection(),
        rounds=RoundsSection(),
        boards=boards,
        traces=traces,
        trace_confidences={domain: bytes(len(bits)) for domain, bits in traces.items()},
    )
