"""Three boards on the verifier's own two cores: tokens/s with drafts allowed over those without.

Nothing is to be gained there, and the verifier has to find that out by itself. Both arms go through
the same running programs; speculation is switched by the request. A run is two parts of each arm in
the order of ABBA, each the same questions, whose tokens are counted until the first board has all
its answers. What the two parts without drafts differ by is the noise that the ratio has as well.
Before that boards chat until the verifier has measured something; what that took is printed.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence

import click

from shared.protocol.messages import AcceptanceMode
from tests.benchmarks.chat_run import LOST, Asking, chat_run, scrape
from tests.benchmarks.fleet import Fleet, fleet, setting_of
from tests.support.chats.prompt_set import DRAFTS

NUM_TOKENS = 80
MOST_LEARNING_RUNS = 6
VERIFIER: Mapping[str, object] = {
    "rounds.budget_tokens": 24,
    "target.dtype": "float32",
    "target.context_tokens": 1024,
    "target.kv_cache_tokens": 8192,
}
AGENT: Mapping[str, object] = {
    "draft.threads": 1,
    "draft.batch_threads": 1,
    "draft.context_tokens": 1024,
}


@click.command()
@click.option("--runs", "num_runs", default=10, help="Of two parts with drafts, two without.")
@click.option("--prompts", "num_prompts", default=3, help="Questions of each board in a part.")
@click.option("--boards", "num_boards", default=3, help="Boards, each with another draft model.")
@click.option(
    "--draft", "drafts", multiple=True, help="The draft model of a board, in their place."
)
@click.option("--mode", type=click.Choice(["coupled", "rejection"]), default="coupled")
@click.option("--temperature", default=0.8, help="The higher, the less is accepted.")
@click.option("--core", "cores", type=int, multiple=True, help="That all programs share.")
@click.option("--set", "settings", multiple=True, help="SECTION.KEY=VALUE of the verifier.")
def main(
    num_runs: int,
    num_prompts: int,
    num_boards: int,
    drafts: Sequence[str],
    mode: AcceptanceMode,
    temperature: float,
    cores: Sequence[int],
    settings: Sequence[str],
) -> None:
    """Print tokens/s of both arms, their ratio for every run, and its spread."""
    own = dict(map(setting_of, settings))
    with fleet(
        drafts or DRAFTS[:num_boards],
        verifier_settings={**VERIFIER, **own},
        agent_settings=AGENT,
        verifier_cores=set(cores) or None,
        agent_cores=set(cores) or None,
    ) as running:
        asking = Asking(num_prompts, NUM_TOKENS, temperature, mode)
        _learn(running, asking)
        ratios, noises = [], []
        print("| run | drafts allowed tokens/s | off | off again | ratio | drafts | measured |")
        print("|---|---|---|---|---|---|---|")
        for number in range(num_runs):
            first, *offs, last = [
                chat_run(running, asking, drafts=drafts) for drafts in (True, False, False, True)
            ]
            speeds = [one.tokens_per_second for one in (first, last, *offs)]
            ratios.append(math.sqrt(speeds[0] * speeds[1] / (speeds[2] * speeds[3])))
            noises.append(speeds[3] / speeds[2])
            print(
                f"| {number} | {speeds[0]:.1f}, {speeds[1]:.1f} | {speeds[2]:.1f} "
                f"| {speeds[3]:.1f} | {ratios[-1]:.3f} "
                f"| {first.num_tested + last.num_tested} | {last.measured:.2f} |",
                flush=True,
            )
    _sum_up("with drafts over without", ratios)
    _sum_up("without, second part over first", noises)


def _learn(running: Fleet, asking: Asking) -> None:
    """Let all boards chat until the verifier knows what their drafts are worth together."""
    started_at = time.monotonic()
    for _ in range(MOST_LEARNING_RUNS):
        learning = chat_run(running, asking, drafts=True)
        if learning.measured:
            break
    lost_seconds = scrape(running)[LOST]
    print(
        f"learnt in {time.monotonic() - started_at:.0f} s: {learning.measured:.2f} "
        f"with drafts over without; that cost {lost_seconds:.1f} s of all streams\n",
        flush=True,
    )


def _sum_up(what: str, ratios: Sequence[float]) -> None:
    logs = [math.log(ratio) for ratio in ratios]
    spread = statistics.stdev(logs) if len(logs) > 1 else math.nan
    print(
        f"\n{what}: geometric mean {math.exp(statistics.fmean(logs)):.3f}, "
        f"{min(ratios):.3f} to {max(ratios):.3f}, deviation {spread:.3f}"
    )


if __name__ == "__main__":
    main()
