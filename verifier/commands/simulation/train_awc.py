"""`goodspeed-verifier train-awc`: DSD's learned window, from situations to weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from shared.daemon.command_line import told_when_interrupted
from shared.daemon.files import replace_file
from verifier.commands.simulation.progress import progress

if TYPE_CHECKING:
    from verifier.reproduction.dsd.situations import Drafting

NUM_SITUATIONS = 2000

_EXAMPLES = """\b
Examples:
  goodspeed-verifier train-awc --output awc.json
  goodspeed-verifier train-awc --situations 5000 --seed 3 --output awc.json
  goodspeed-verifier train-awc --drafting ahead --inputs all --output awc.json   # as what ships
"""


@click.command("train-awc", epilog=_EXAMPLES)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Where the weights are put, a few kB of JSON.",
)
@click.option(
    "--situations",
    type=click.IntRange(20, 1_000_000),
    default=NUM_SITUATIONS,
    show_default=True,
    help="Verifiers with devices in which every window is played.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 31) - 1),
    default=1,
    show_default=True,
    help="Of the situations, of what is held out and of the first weights.",
)
@click.option(
    "--inputs",
    type=click.Choice(["paper", "all"]),
    default="paper",
    show_default=True,
    help="The paper's five, or beside them a board's speed, and the time and growth of a round.",
)
@click.option(
    "--drafting",
    type=click.Choice(["waiting", "ahead"]),
    default="waiting",
    show_default=True,
    help="Streams that wait for their own draft, as the paper's, or never wait, as here.",
)
def train_awc(output: Path, situations: int, seed: int, inputs: str, drafting: Drafting) -> None:
    """Learn how long drafts should be, as DSD's adaptive window control does (arXiv 2511.21669).

    In each situation windows 2 to 12 and fused mode are simulated, and the best is the label. Takes
    a minute or two on a quiet machine. The same seed writes the same bytes. What rounds.policy =
    "awc" goes by ships with the verifier, of either kind of streams and with all inputs.
    """
    with told_when_interrupted("stopped before the end; nothing was written"):
        _train(output, situations, seed, inputs, drafting)


def _train(output: Path, situations: int, seed: int, inputs: str, drafting: Drafting) -> None:
    from verifier.policies.awc import ALL_INPUTS, PAPER_INPUTS
    from verifier.policies.awc_weights import file_of
    from verifier.reproduction.dsd.situations import sweep
    from verifier.reproduction.dsd.training import train

    with progress("playing situations") as advance:
        examples = sweep(situations, seed, advance, drafting)
    num_inputs = PAPER_INPUTS if inputs == "paper" else ALL_INPUTS
    examples = examples._replace(inputs=examples.inputs[:, :num_inputs])
    with progress("training") as advance:
        trained = train(examples, seed, advance)
    command = f"goodspeed-verifier train-awc --situations {situations} --seed {seed}"
    command += f" --inputs {inputs}" * (num_inputs != PAPER_INPUTS)
    command += f" --drafting {drafting}" * (drafting != "waiting")
    content = file_of(
        trained.weights,
        command=command,
        seed=seed,
        situations=situations,
        held_out_error=trained.held_out_error,
        middle_error=trained.middle_error,
        fused_part=trained.fused_part,
    )
    replace_file(output, content, mode=0o644)
    click.echo(
        f"labels: {trained.fused_part:.0%} fused; error on {trained.num_held_out} held-out "
        f"examples: {trained.held_out_error:.2f} tokens ({trained.middle_error:.2f} for always the "
        f"median)\nsaved to {output}"
    )
