"""`goodspeed-verifier reproduce`: papers' figures, run again, as pages under docs/reproduction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from shared.daemon.command_line import told_when_interrupted
from shared.daemon.files import replace_file
from verifier.commands.simulation.plots.pictures import check_matplotlib
from verifier.commands.simulation.progress import progress
from verifier.reproduction.page import Page, markdown

_EXAMPLES = """\b
Examples:
  goodspeed-verifier reproduce goodspeed
  goodspeed-verifier reproduce all
  goodspeed-verifier reproduce all --seeds 3 --directory /tmp/pages     # sooner, and elsewhere
"""
_DIRECTORY = Path("docs/reproduction")
_NUM_SEEDS = 10

Advance = Callable[[float], None]


class Written(NamedTuple):
    """A page with what belongs to it."""

    page: Page
    pictures: dict[str, bytes]  # by the name of the file
    figures: msgspec.Struct


def _heterogeneous_edge(num_seeds: int, command: str, advance: Advance) -> Written:
    from verifier.commands.simulation.plots.edge_plot import draw_edge_figures
    from verifier.reproduction.heterogeneous_edge.figures import edge_figures
    from verifier.reproduction.heterogeneous_edge.page import PICTURE, edge_page

    figures = edge_figures(num_seeds, advance)
    return Written(edge_page(figures, command), {PICTURE: draw_edge_figures(figures)}, figures)


def _dsd(num_seeds: int, command: str, advance: Advance) -> Written:
    from verifier.commands.simulation.job_processes import in_processes
    from verifier.commands.simulation.plots.dsd_plot import draw_dsd_figures
    from verifier.reproduction.dsd.arms import play_job
    from verifier.reproduction.dsd.figures import dsd_figures
    from verifier.reproduction.dsd.page import PICTURE, dsd_page

    figures = dsd_figures(num_seeds, advance, lambda jobs: in_processes(play_job, jobs))
    return Written(dsd_page(figures, command), {PICTURE: draw_dsd_figures(figures)}, figures)


def _goodspeed(num_seeds: int, command: str, advance: Advance) -> Written:
    from verifier.commands.simulation.plots.rounds_plot import draw_round_figures
    from verifier.reproduction.goodspeed_rounds.figures import round_figures
    from verifier.reproduction.goodspeed_rounds.page import PICTURE, round_page

    figures = round_figures(num_seeds, advance)
    return Written(round_page(figures, command), {PICTURE: draw_round_figures(figures)}, figures)


def _slo(num_seeds: int, command: str, advance: Advance) -> Written:
    from verifier.commands.simulation.job_processes import in_processes
    from verifier.commands.simulation.plots.slo_plot import draw_slo_figures
    from verifier.reproduction.slo_batches.arms import play_job
    from verifier.reproduction.slo_batches.figures import slo_figures
    from verifier.reproduction.slo_batches.page import PICTURE, slo_page

    figures = slo_figures(num_seeds, advance, lambda jobs: in_processes(play_job, jobs))
    return Written(slo_page(figures, command), {PICTURE: draw_slo_figures(figures)}, figures)


PAPERS: dict[str, Callable[[int, str, Advance], Written]] = {
    "goodspeed": _goodspeed,
    "dsd": _dsd,
    "heterogeneous-edge": _heterogeneous_edge,
    "slo": _slo,
}


@click.command(epilog=_EXAMPLES)
@click.argument("paper", type=click.Choice([*PAPERS, "all"]))
@click.option(
    "--seeds",
    "num_seeds",
    type=click.IntRange(2, 1000),
    default=_NUM_SEEDS,
    show_default=True,
    help="Worlds that all arms are played in.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=_DIRECTORY,
    show_default=True,
    help="Where the pages, their pictures and their figures as JSON are put.",
)
def reproduce(paper: str, num_seeds: int, directory: Path) -> None:
    """Run a paper's experiments, and write what holds and what does not.

    Each page lays the paper's figures beside ours and says of every claim whether it is reproduced,
    in part, or not, and why. Everything is simulated: no GPU and no model is needed. The same
    command writes the same bytes.
    """
    check_matplotlib("reproduce")
    papers = list(PAPERS) if paper == "all" else [paper]
    with told_when_interrupted("stopped before the end; files that are there are whole"):
        for name in papers:
            _reproduce(name, num_seeds, directory)


def _reproduce(name: str, num_seeds: int, directory: Path) -> None:
    """Nothing is written before all of a paper is there; the page comes last."""
    command = f"goodspeed-verifier reproduce {name}"
    command += f" --seeds {num_seeds}" * (num_seeds != _NUM_SEEDS)
    with progress(name) as advance:
        written = PAPERS[name](num_seeds, command, advance)
    packed = msgspec.json.format(msgspec.json.encode(written.figures), indent=1)
    files = {f"{name}.json": packed + b"\n", **written.pictures}
    files[f"{name}.md"] = markdown(written.page).encode()
    for file, content in files.items():
        replace_file(directory / file, content, mode=0o644)
    for claim in written.page.claims:
        click.echo(f"{claim.verdict}: {claim.says}: paper {claim.paper}; here {claim.ours}")
    click.echo(f"wrote {directory / f'{name}.md'}")
