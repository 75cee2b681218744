"""`goodspeed-verifier calibrate`: a recording becomes a scenario, and says how far it is off."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from shared.daemon.command_line import told_when_interrupted
from shared.daemon.files import replace_file
from verifier.commands.simulation.progress import progress

_EXAMPLES = """\b
Examples:
  goodspeed-verifier run --record evening.jsonl      # and let people chat for a while
  goodspeed-verifier calibrate evening.jsonl --scenario evening.toml
  goodspeed-verifier simulate evening.toml --policy rate
"""


@click.command(epilog=_EXAMPLES)
@click.argument("recording_file", metavar="RECORDING", type=click.Path(path_type=Path))
@click.option(
    "--scenario",
    "scenario_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the world to this file, and which drafts were right, and the requests, to files "
    "beside it.",
)
def calibrate(recording_file: Path, scenario_file: Path | None) -> None:
    """Fit a simulated world to what a verifier recorded, and say how far it is off.

    Rounds are fitted to a line, boards to the speed, link and pauses that were seen; which draft
    tokens are right is replayed. The world is then played with the verifier's own planner, beside
    what was recorded.
    """
    with told_when_interrupted("stopped before the end; nothing was written"):
        _calibrate(recording_file, scenario_file)


def _calibrate(recording_file: Path, scenario_file: Path | None) -> None:
    import tempfile

    from rich.console import Console

    from verifier.commands.simulation.calibration_table import print_calibration
    from verifier.recording.calibration import calibrate as fit
    from verifier.recording.recording_file import read_recording
    from verifier.recording.scenario_text import scenario_files
    from verifier.sim.outcome import outcome_of
    from verifier.sim.scenario_file import read_scenario
    from verifier.sim.world import play

    recording = read_recording(recording_file)
    calibration = fit(recording)
    stem = (scenario_file or recording_file).stem
    shows = f"What {recording_file.name} recorded of {recording.begin.target_model}."
    files = scenario_files(calibration, recording.begin.rounds, stem, shows)
    with tempfile.TemporaryDirectory() as directory:
        for name, content in files.items():
            Path(directory, name).write_bytes(content)
        scenario = read_scenario(Path(directory, f"{stem}.toml"))
    with progress("simulating") as advance:
        world = play(scenario, advance=advance)
    # Nothing is told beside the target alone, so it is not played.
    print_calibration(calibration, outcome_of(world, world), Console(file=sys.stdout))
    if scenario_file is not None:
        for name, content in files.items():
            replace_file(scenario_file.parent / name, content, mode=0o644)
        click.echo(f"{scenario_file} is written; goodspeed-verifier simulate {scenario_file}")
