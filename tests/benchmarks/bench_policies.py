"""Tokens/s of the same chats under several policies, of the target alone, and with boards untold.

Each arm has a verifier and boards of its own, which all run; arms take turns run by run, in another
order each time, so that whatever else the machine does meets all of them. A run is the same
questions each time, and its tokens are counted until the first board has all its answers.

    python -m tests.benchmarks.bench_policies --draft smollm2-18m --arm rate --arm goodspeed
    python -m tests.benchmarks.bench_policies --boards 8 --arm rate --arm rate-not-told \
        --draft smollm2-135m-instruct-q4_0 --draft smollm2-135m-instruct-q2_k
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import click

from tests.benchmarks.chat_run import Asking, ChatRun, chat_run
from tests.benchmarks.fleet import Fleet, fleet, setting_of
from tests.support.programs.command import LAUNCHERS

_T = TypeVar("_T")

ALONE, NOT_TOLD = "alone", "-not-told"
VERIFIER: Mapping[str, object] = {
    "target.dtype": "float32",
    "target.context_tokens": 1024,
    "target.kv_cache_tokens": 16384,
}
AGENT: Mapping[str, object] = {
    "draft.threads": 1,
    "draft.batch_threads": 1,
    "draft.context_tokens": 1024,
}


@click.command()
@click.option("--boards", "num_boards", default=1, show_default=True)
@click.option("--draft", "drafts", multiple=True, required=True, help="Dealt out to the boards.")
@click.option(
    "--arm",
    "policies",
    multiple=True,
    default=("rate", "goodspeed"),
    help="A policy; behind it -not-told: boards do not say how sure they are of their tokens.",
)
@click.option("--mode", type=click.Choice(["coupled", "rejection"]), default="coupled")
@click.option("--temperature", default=0.8, show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option(
    "--prompts", "num_prompts", default=4, show_default=True, help="Of a board, in a run."
)
@click.option("--tokens", "num_tokens", default=96, show_default=True)
@click.option("--round-ms", type=float, default=0, help="What a round takes at least.")
@click.option("--token-ms", type=float, default=0, help="And that each of its tokens adds.")
@click.option("--verifier-core", "verifier_cores", type=int, multiple=True)
@click.option("--board-core", "board_cores", type=int, multiple=True, help="Dealt out to boards.")
@click.option("--set", "settings", multiple=True, help="SECTION.KEY=VALUE of the verifiers.")
def main(
    num_boards: int,
    drafts: Sequence[str],
    policies: Sequence[str],
    mode: str,
    temperature: float,
    repeats: int,
    num_prompts: int,
    num_tokens: int,
    round_ms: float,
    token_ms: float,
    verifier_cores: Sequence[int],
    board_cores: Sequence[int],
    settings: Sequence[str],
) -> None:
    """Print a row for each arm and repeat, then each arm over the target alone and the first."""
    asking = Asking(num_prompts, num_tokens, temperature, mode)
    own = dict(map(setting_of, settings))
    slowed = (f"--round-ms={round_ms:g}", f"--token-ms={token_ms:g}")
    with ExitStack() as stack:
        fleets = {
            policy: stack.enter_context(
                _running(
                    policy, dealt(drafts, num_boards), own, verifier_cores, board_cores, slowed
                )
            )
            for policy in policies
        }
        for running in fleets.values():  # teaches the estimators
            chat_run(running, asking)
        print(
            "| repeat | arm | tokens/s | draft tokens tested | bytes/token |\n|---|---|---|---|---|"
        )
        speeds: dict[str, list[float]] = {arm: [] for arm in (*policies, ALONE)}
        for number in range(repeats):
            for arm in _turned(tuple(speeds), number):
                run = _run(fleets, arm, asking, number)
                speeds[arm].append(run.tokens_per_second)
                cells = f"{run.tokens_per_second:.1f} | {run.num_tested} | {run.wire_bytes:.1f}"
                print(f"| {number} | {arm} | {cells} |", flush=True)
            _sum_up(speeds)


def dealt(some: Sequence[_T], number: int) -> list[_T]:
    """As many as that, over and over again; none of none."""
    return list(itertools.islice(itertools.cycle(some), number))


def _run(fleets: Mapping[str, Fleet], arm: str, asking: Asking, number: int) -> ChatRun:
    """The target alone is asked of the arms' verifiers in turn."""
    if arm == ALONE:
        return chat_run(tuple(fleets.values())[number % len(fleets)], asking, drafts=False)
    return chat_run(fleets[arm], asking)


def _sum_up(speeds: Mapping[str, Sequence[float]]) -> None:
    """After every repeat, so that a run that is ended too soon has told something."""
    first = next(iter(speeds))
    for arm in speeds:
        if arm != ALONE:
            over = f"{arm}: {_ratio(speeds, arm, ALONE)} of the target alone"
            beside = "" if arm == first else f", {first} over it {_ratio(speeds, first, arm)}"
            print(f"  {over}{beside}", flush=True)


def _ratio(speeds: Mapping[str, Sequence[float]], arm: str, rival: str) -> str:
    ratios = [one / other for one, other in zip(speeds[arm], speeds[rival], strict=True)]
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    return f"{mean:.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


@contextmanager
def _running(
    arm: str,
    drafts: Sequence[str],
    settings: Mapping[str, object],
    verifier_cores: Sequence[int],
    board_cores: Sequence[int],
    slowed: Sequence[str],
) -> Iterator[Fleet]:
    untold = ("--not-told",) if arm.endswith(NOT_TOLD) else ()
    threads = {"target.threads": len(verifier_cores)} if verifier_cores else {}
    policy = {"rounds.policy": arm.removesuffix(NOT_TOLD)}
    with fleet(
        drafts,
        verifier_settings={**VERIFIER, **policy, **threads, **settings},
        agent_settings=AGENT,
        verifier_cores=set(verifier_cores) or None,
        own_cores=[{core} for core in dealt(board_cores, len(drafts))] or None,
        launcher=(*LAUNCHERS, "verifier", *slowed, *untold),
    ) as running:
        yield running


def _turned(some: Sequence[_T], by: int) -> Sequence[_T]:
    first = by % len(some)
    return (*some[first:], *some[:first])


if __name__ == "__main__":
    main()
