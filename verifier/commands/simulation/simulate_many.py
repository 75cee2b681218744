"""`goodspeed-verifier simulate many-verifiers`: a fleet that many verifiers share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from shared.daemon.command_line import told_when_interrupted
from shared.daemon.files import replace_file
from verifier.commands.simulation.plots.pictures import check_plotting
from verifier.commands.simulation.progress import progress

if TYPE_CHECKING:
    from verifier.sim.many_verifiers.drawing import Recorded
    from verifier.sim.many_verifiers.outcome import ManyOutcome
    from verifier.sim.many_verifiers.parts import Exchange, Part
    from verifier.sim.many_verifiers.scenario import ManyScenario

_EXAMPLES = """\b
Examples:
  goodspeed-verifier simulate many-verifiers devices/scenarios/many/city.toml --processes 2
  goodspeed-verifier simulate many-verifiers devices/scenarios/many/recorded.toml --json out.json
"""


@click.command("many-verifiers", epilog=_EXAMPLES)
@click.argument("scenario_file", metavar="SCENARIO.toml", type=click.Path(path_type=Path))
@click.option(
    "--seed", type=click.IntRange(0, (1 << 31) - 1), help="In place of the scenario's seed."
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Verifiers are dealt out over so many; the outcome does not hang on it.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all figures to a file: the same bytes for the same scenario and seed.",
)
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw windows, tokens and load over time, as .svg, .png or .pdf; needs matplotlib.",
)
def many_verifiers(
    scenario_file: Path,
    seed: int | None,
    processes: int,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Play a fleet that many verifiers share: routing, prompts, rounds, drafts, in arrays.

    The policies, and the placement of requests, are those of the running verifier; boards and
    rounds are simpler than in `simulate fleet`, and a hundred thousand devices can be played.
    """
    with told_when_interrupted("stopped before the end; nothing was written"):
        _simulate(scenario_file, seed, processes, json_file, plot_file)


def _simulate(
    scenario_file: Path,
    seed: int | None,
    num_processes: int,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    from rich.console import Console

    from verifier.commands.simulation.many_table import many_table
    from verifier.commands.simulation.part_processes import play_in_parts
    from verifier.sim.many_verifiers.scenario_file import read_many_scenario

    scenario, recorded = read_many_scenario(scenario_file)
    if seed is not None:
        run = msgspec.structs.replace(scenario.scenario, seed=seed)
        scenario = msgspec.structs.replace(scenario, scenario=run)
    if plot_file is not None:
        check_plotting(plot_file)
    num_parts = min(num_processes, scenario.verifiers.count)
    with progress("simulating") as advance:
        outcome = play_in_parts(partial(_play, scenario, recorded), num_parts, advance)
    Console(file=sys.stdout).print(many_table(outcome))
    if json_file is not None:
        content = {"scenario": scenario, "outcome": outcome}
        encoded = msgspec.json.encode(content, enc_hook=str)
        replace_file(json_file, msgspec.json.format(encoded, indent=1) + b"\n", mode=0o644)
    if plot_file is not None:
        from verifier.commands.simulation.plots.many_plot import draw_many

        replace_file(plot_file, draw_many(outcome, plot_file.suffix[1:]), mode=0o644)


def _play(
    scenario: ManyScenario,
    recorded: Recorded,
    part: Part,
    exchange: Exchange,
    advance: Callable[[float], None],
) -> ManyOutcome:
    from verifier.sim.many_verifiers.drawing import draw_devices
    from verifier.sim.many_verifiers.world import ManyWorld

    setting, seed = scenario.setting, scenario.scenario.seed
    drawn = draw_devices(setting, seed, recorded)
    return ManyWorld(setting, seed, scenario.arm(), drawn, part, exchange).play(advance)
