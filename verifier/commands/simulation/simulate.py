"""`goodspeed-verifier simulate`: many boards and one verifier in simulated time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import click
import msgspec

from shared.daemon.command_line import told_when_interrupted
from shared.daemon.files import replace_file
from verifier.commands.simulation.plots.pictures import check_plotting
from verifier.commands.simulation.progress import progress
from verifier.commands.simulation.simulate_edge import heterogeneous_edge
from verifier.commands.simulation.simulate_many import many_verifiers
from verifier.policies import PolicyName

_EXAMPLES = """\b
Examples:
  goodspeed-verifier simulate devices/scenarios/kitchen.toml
  goodspeed-verifier simulate devices/scenarios/step.toml --plot step.svg
  goodspeed-verifier simulate devices/scenarios/crowd.toml --policy greedy --json greedy.json
"""
_WORLDS = """\b
Examples:
  goodspeed-verifier simulate devices/scenarios/kitchen.toml      # the same as simulate fleet …
  goodspeed-verifier simulate fleet --help
  goodspeed-verifier simulate heterogeneous-edge
  goodspeed-verifier simulate many-verifiers devices/scenarios/many/city.toml
"""


class _Worlds(click.Group):
    """What can be simulated; a fleet where none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See `click.Group`."""
        is_named = not args or args[0] in (*self.commands, *ctx.help_option_names)
        return super().parse_args(ctx, args if is_named else ["fleet", *args])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See `click.Group`."""
        return super().get_command(ctx, cmd_name) or self.commands["fleet"]


@click.group(cls=_Worlds, epilog=_WORLDS)
def simulate() -> None:
    """Try things out in simulated time, without a board or a model.

    A file alone, `simulate SCENARIO.toml`, is a fleet of boards at one verifier.
    """


simulate.add_command(heterogeneous_edge)
simulate.add_command(many_verifiers)


@simulate.command(epilog=_EXAMPLES)
@click.argument("scenario_file", metavar="SCENARIO.toml", type=click.Path(path_type=Path))
@click.option(
    "--policy",
    type=click.Choice(get_args(PolicyName)),
    help="In place of the scenario's rounds.policy.",
)
@click.option(
    "--seed", type=click.IntRange(0, (1 << 31) - 1), help="In place of the scenario's seed."
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
    help="Draw the curves over time, as .svg, .png or .pdf; needs matplotlib.",
)
def fleet(
    scenario_file: Path,
    policy: PolicyName | None,
    seed: int | None,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Play a fleet against the verifier's own planner, policies and streams.

    Nothing but time and texts is simulated: what boards draft and what rounds hold is decided by
    the code that runs in agents and verifiers. The same fleet is played with the target alone, for
    comparison.
    """
    with told_when_interrupted("stopped before the end; nothing was written"):
        _simulate(scenario_file, policy, seed, json_file, plot_file)


def _simulate(
    scenario_file: Path,
    policy: PolicyName | None,
    seed: int | None,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    from rich.console import Console

    from verifier.commands.simulation.simulation_table import print_outcome
    from verifier.sim.outcome import outcome_of
    from verifier.sim.scenario_file import read_scenario
    from verifier.sim.world import play

    scenario = read_scenario(scenario_file)
    if policy is not None:
        rounds = msgspec.structs.replace(scenario.rounds, policy=policy)
        scenario = msgspec.structs.replace(scenario, rounds=rounds)
    if seed is not None:
        run = msgspec.structs.replace(scenario.run, seed=seed)
        scenario = msgspec.structs.replace(scenario, run=run)
    if plot_file is not None:
        check_plotting(plot_file)
    with progress("simulating") as advance:
        world = play(scenario, advance=advance)
        alone = play(scenario, drafts=False)
    outcome = outcome_of(world, alone)
    print_outcome(outcome, scenario, Console(file=sys.stdout))
    if json_file is not None:
        packed = msgspec.json.format(msgspec.json.encode(outcome), indent=1)
        replace_file(json_file, packed + b"\n", mode=0o644)
    if plot_file is not None:
        from verifier.commands.simulation.plots.simulation_plot import draw

        replace_file(plot_file, draw(outcome, plot_file.suffix[1:]), mode=0o644)
