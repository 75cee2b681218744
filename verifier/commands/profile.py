"""`goodspeed-verifier profile`: how long rounds of the target take on this machine."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import click

from shared.config.sections import Loaded
from shared.daemon.command_line import set_up_logging, settings_options, told_when_interrupted
from shared.daemon.files import replace_file
from verifier.commands.settings import SETTINGS
from verifier.config import VerifierConfig
from verifier.cost_curve.files import curve_path
from verifier.cost_curve.measurement import WHOLE_ON_CPU, WHOLE_ON_GPU, CurveGrid, measure_curve
from verifier.cost_curve.table import budget_table, curve_table

# Of each stream, where the table asks how many drafts a round may hold.
_STREAM_CONTEXT_TOKENS = 1024


_EXAMPLES = """\b
Examples:
  goodspeed-verifier profile --set state.directory=/var/lib/goodspeed
  goodspeed-verifier profile --config verifier.toml --output curve.json
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to save the curve; by default in state.directory, where `run` looks for it.",
)
@settings_options(SETTINGS)
def profile(loaded: Loaded[VerifierConfig], output: Path | None) -> None:
    """Measure how long rounds of the target take, and save the curve for `run`.

    What a round of so many tokens takes decides how many draft tokens it may hold
    (rounds.slowdown_limit). Without a saved curve, `run` measures a few rounds at every start.

    Takes half a minute with a small model. Run it when nothing else uses the device, and again
    after changing target.model, target.device, target.dtype or target.quantisation.
    """
    with told_when_interrupted("stopped before all rounds were measured; nothing was saved"):
        _profile(loaded.config, output)


def _profile(config: VerifierConfig, output: Path | None) -> None:
    from verifier.startup import load_configured_target

    set_up_logging(config.log.level, config.log.format)
    loaded = load_configured_target(config, lambda sentence: click.echo(sentence, err=True))
    max_tokens = config.rounds.max_round_tokens
    size = WHOLE_ON_GPU if loaded.is_on_gpu else WHOLE_ON_CPU
    grid = CurveGrid.of(loaded.target, max_tokens, size)
    subject = loaded.subject
    with _progress(grid) as advance:
        curve = measure_curve(loaded.target, grid, subject, advance)
    context_tokens = min(_STREAM_CONTEXT_TOKENS, loaded.target.context_tokens)
    quantised = "" if subject.quantisation == "none" else f", {subject.quantisation} weights"
    click.echo(f"{subject.model} on {subject.device}, {subject.dtype}{quantised}\n")
    click.echo(curve_table(curve) + "\n")
    click.echo(budget_table(curve, context_tokens, config.rounds.slowdown_limit, max_tokens) + "\n")
    if output is None and config.state.directory is not None:
        output = curve_path(config.state.directory, subject.model)
    if output is None:
        click.echo("not saved: set state.directory, or give --output FILE")
        return
    replace_file(output, curve.to_json(), mode=0o644)
    click.echo(f"saved to {output}")


@contextlib.contextmanager
def _progress(grid: CurveGrid) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, a line for each pass over the grid elsewhere; on standard error."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("measuring rounds", total=grid.num_rounds)
            yield lambda: bar.advance(task)
        return
    round_numbers = count(1)

    def advance() -> None:
        number = next(round_numbers)
        if number % (grid.num_rounds // (1 + grid.num_repeats)) == 0:
            click.echo(f"measured {number} of {grid.num_rounds} rounds", err=True)

    yield advance
