"""Whether another checkout plays the shipped scenarios byte for byte as this one does.

For changes that are to make planning faster and nothing else: every scenario with each policy, the
first seconds of it, in processes of their own; the figures of both trees are compared as bytes.

    python -m tests.benchmarks.same_worlds --against ../before --seconds 8
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import msgspec

from verifier.policies import PolicyName
from verifier.sim.outcome import outcome_of
from verifier.sim.scenario_file import read_scenario
from verifier.sim.world import play

ROOT = Path(__file__).parents[2]
SECONDS = 8.0


def figures_digest(scenario_file: Path, policy: PolicyName, seconds: float) -> str:
    """A digest of all figures of a scenario's first seconds."""
    scenario = read_scenario(scenario_file)
    rounds = msgspec.structs.replace(scenario.rounds, policy=policy)
    run = msgspec.structs.replace(scenario.run, seconds=min(scenario.run.seconds, seconds))
    scenario = msgspec.structs.replace(scenario, rounds=rounds, run=run)
    outcome = outcome_of(play(scenario), play(scenario, drafts=False))
    return hashlib.sha256(msgspec.json.encode(outcome)).hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each world; the status is 1 where one differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, default=ROOT, help="another checkout")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--policies", nargs="+", choices=get_args(PolicyName))
    parser.add_argument("--once", help=argparse.SUPPRESS)  # the name of a scenario
    settings = parser.parse_args(arguments)
    policies = settings.policies or ("goodspeed", "rate")
    if settings.once:
        file = ROOT / "devices" / "scenarios" / settings.once
        print(figures_digest(file, policies[0], settings.seconds))
        return
    is_same, trees = True, (ROOT, settings.against)
    for file in sorted((ROOT / "devices" / "scenarios").glob("*.toml")):
        for policy in policies:
            here, there = [_once(tree, file.name, policy, settings) for tree in trees]
            is_same &= here == there
            print(
                f"{file.stem:14} {policy:10} {'same' if here == there else 'DIFFERS'}", flush=True
            )
    sys.exit(not is_same)


def _once(tree: Path, name: str, policy: str, settings: argparse.Namespace) -> str:
    """By this script and with these files, and with that tree's code, which may not have them."""
    command = [sys.executable, __file__, "--once", name, "--policies", policy]
    command += ["--seconds", str(settings.seconds)]
    paths = str(tree.resolve()), os.environ.get("PYTHONPATH", "")
    code = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.run(command, env=code, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
