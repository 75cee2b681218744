"""`goodspeed-verifier simulate heterogeneous-edge`: a cell, a small and a large base station."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import msgspec

from shared.daemon.command_line import told_when_interrupted
from shared.daemon.files import replace_file
from verifier.commands.simulation.plots.pictures import check_plotting
from verifier.commands.simulation.progress import progress

_EXAMPLES = """\b
Examples:
  goodspeed-verifier simulate heterogeneous-edge                      # the paper's cell
  goodspeed-verifier simulate heterogeneous-edge cell.toml --seed 7 --json cell.json
  goodspeed-verifier simulate heterogeneous-edge cell.toml --plot cell.svg

\b
cell.toml, every key with its default unless it is named:
  [cell]
  users = 300
  bandwidth_megahertz = 25.0
  [requests]
  max_input_tokens = 1024
  prompt_token_bits = 65536.0
  [stations]
  draft_model = "tinyllama-1.1b"
  small_slowness = 4.0
"""


@click.command("heterogeneous-edge", epilog=_EXAMPLES)
@click.argument(
    "scenario_file", metavar="[CELL.toml]", required=False, type=click.Path(path_type=Path)
)
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 31) - 1),
    default=1,
    show_default=True,
    help="Of the users' places and prompts.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all plans to a file: the same bytes for the same cell and seed.",
)
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw upload and decoding of each arm, as .svg, .png or .pdf; needs matplotlib.",
)
def heterogeneous_edge(
    scenario_file: Path | None, seed: int, json_file: Path | None, plot_file: Path | None
) -> None:
    """Plan bandwidth, batches and draft length of a cell with two base stations.

    Users upload prompts over a shared uplink; the small station drafts, the large one checks, in a
    pipeline. The joint plan (arXiv 2510.11331) stands beside every baseline of that paper.
    """
    with told_when_interrupted("stopped before the end; nothing was written"):
        _plan(scenario_file, seed, json_file, plot_file)


def _plan(
    scenario_file: Path | None, seed: int, json_file: Path | None, plot_file: Path | None
) -> None:
    from rich.console import Console

    from verifier.commands.simulation.edge_table import edge_table
    from verifier.reproduction.heterogeneous_edge.arms import ARMS, EdgePlanner
    from verifier.reproduction.heterogeneous_edge.scenario import EdgeScenario
    from verifier.reproduction.heterogeneous_edge.scenario_file import read_edge_scenario
    from verifier.reproduction.heterogeneous_edge.world import draw_users

    scenario = EdgeScenario() if scenario_file is None else read_edge_scenario(scenario_file)
    if plot_file is not None:
        check_plotting(plot_file)
    planner = EdgePlanner(scenario, draw_users(scenario, seed))
    plans = []
    with progress("planning") as advance:
        for number, arm in enumerate(ARMS, start=1):
            plans.append(planner.plan(arm))
            advance(number / len(ARMS))
    Console(file=sys.stdout).print(edge_table(plans))
    if json_file is not None:
        content = {"seed": seed, "scenario": scenario, "plans": plans}
        packed = msgspec.json.format(msgspec.json.encode(content), indent=1)
        replace_file(json_file, packed + b"\n", mode=0o644)
    if plot_file is not None:
        from verifier.commands.simulation.plots.edge_plot import draw_plans

        replace_file(plot_file, draw_plans(plans, plot_file.suffix[1:]), mode=0o644)
