"""Real boards chat while the verifier records; how far the world that is fitted to it is off.

One row of the table that `goodspeed-verifier calibrate` prints is the rounds, the others are the
boards. Each program should have a core of its own: a simulated board has.

    python -m tests.benchmarks.bench_calibration --boards 3 --draft smollm2-18m --temperature 0
    python -m tests.benchmarks.bench_calibration --boards 3 --draft smollm2-18m \\
        --scenario evening.toml                # keeps the world, its traces and its requests
    python -m tests.benchmarks.bench_calibration --round-ms 60 --draft smollm2-18m \\
        --round-trip-ms 30
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from tests.benchmarks.bench_policies import AGENT, VERIFIER, dealt
from tests.benchmarks.chat_run import Asking, chat_run
from tests.benchmarks.fleet import fleet, setting_of
from tests.support.network.chaos_lane import Weather
from tests.support.programs.command import LAUNCHERS
from verifier.commands.simulation.calibrate import calibrate


@click.command()
@click.option("--boards", "num_boards", default=1, show_default=True)
@click.option("--draft", "drafts", multiple=True, required=True, help="Dealt out to the boards.")
@click.option("--mode", type=click.Choice(["coupled", "rejection"]), default="coupled")
@click.option("--temperature", default=0.8, show_default=True)
@click.option("--prompts", "num_prompts", default=5, show_default=True, help="Of each board.")
@click.option("--tokens", "num_tokens", default=96, show_default=True)
@click.option("--round-ms", type=float, default=0, help="What a round takes at least.")
@click.option("--round-trip-ms", type=float, default=0, help="What links add.")
@click.option("--verifier-core", "verifier_cores", type=int, multiple=True)
@click.option("--board-core", "board_cores", type=int, multiple=True, help="Dealt out to boards.")
@click.option("--scenario", type=click.Path(dir_okay=False), help="Keep the fitted world there.")
@click.option("--recording", "kept", type=click.Path(path_type=Path), help="Keep the recording.")
@click.option("--set", "settings", multiple=True, help="SECTION.KEY=VALUE of the verifier.")
def main(
    num_boards: int,
    drafts: Sequence[str],
    mode: str,
    temperature: float,
    num_prompts: int,
    num_tokens: int,
    round_ms: float,
    round_trip_ms: float,
    verifier_cores: Sequence[int],
    board_cores: Sequence[int],
    scenario: str | None,
    kept: Path | None,
    settings: Sequence[str],
) -> None:
    """Print what was recorded beside what the fitted world comes to."""
    threads = {"target.threads": len(verifier_cores)} if verifier_cores else {}
    with tempfile.TemporaryDirectory() as directory:
        recording = kept or Path(directory) / "chats.jsonl"
        with fleet(
            dealt(drafts, num_boards),
            verifier_settings={**VERIFIER, **threads, **dict(map(setting_of, settings))},
            agent_settings=AGENT,
            verifier_cores=set(verifier_cores) or None,
            own_cores=[{core} for core in dealt(board_cores, num_boards)] or None,
            launcher=(*LAUNCHERS, "verifier", f"--round-ms={round_ms:g}"),
            options=("--record", str(recording)),
            weather=Weather(delay_seconds=round_trip_ms / 2e3) if round_trip_ms else None,
        ) as running:
            run = chat_run(running, Asking(num_prompts, num_tokens, temperature, mode))
        print(f"{run.tokens_per_second:.1f} tokens/s, {run.num_tested} draft tokens tested")
        options = ["--scenario", scenario] if scenario else []
        calibrate.main([str(recording), *options], standalone_mode=False)


if __name__ == "__main__":
    main()
