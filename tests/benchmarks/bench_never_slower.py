"""Three boards on the verifier's own two cores: tokens/s with drafts allowed over those without.

Nothing is to be gained there, and the verifier has to find that out by itself. Both arms go through
the same running programs, in turn and each first in every other pair; speculation is switched by
the request. A run is the same questions each time, and its tokens are counted until the first board
has all its answers. Before that boards chat until the verifier has measured something; what that
took is printed.
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
@click.option("--pairs", "num_pairs", default=10, help="Runs of each arm.")
@click.option("--prompts", "num_prompts", default=3, help="Questions of each board in a run.")
@click.option("--boards", "num_boards", default=3, help="Boards, each with another draft model.")
@click.option(
    "--draft", "drafts", multiple=True, help="The draft model of a board, in their place."
)
@click.option("--mode", type=click.Choice(["coupled", "rejection"]), default="coupled")
@click.option("--temperature", default=0.8, help="The higher, the less is accepted.")
@click.option("--core", "cores", type=int, multiple=True, help="That all programs share.")
@click.option("--set", "settings", multiple=True, help="SECTION.KEY=VALUE of the verifier.")
def main(
    num_pairs: int,
    num_prompts: int,
    num_boards: int,
    drafts: Sequence[str],
    mode: AcceptanceMode,
    temperature: float,
    cores: Sequence[int],
    settings: Sequence[str],
) -> None:
    """Print tokens/s of both arms, their ratio for every pair, and its spread."""
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
        ratios = []
        print("| pair | drafts allowed tokens/s | off tokens/s | ratio | drafts | measured |")
        print("|---|---|---|---|---|---|")
        for number in range(num_pairs):
            arms = (True, False) if number % 2 else (False, True)
            runs = {drafts: chat_run(running, asking, drafts=drafts) for drafts in arms}
            with_drafts, off = runs[True], runs[False]
            ratios.append(with_drafts.tokens_per_second / off.tokens_per_second)
            print(
                f"| {number} | {with_drafts.tokens_per_second:.1f} "
                f"| {off.tokens_per_second:.1f} | {ratios[-1]:.3f} "
                f"| {with_drafts.num_tested} | {with_drafts.measured:.2f} |",
                flush=True,
            )
    _sum_up(ratios)


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


def _sum_up(ratios: Sequence[float]) -> None:
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    print(
        f"\ngeometric mean {mean:.3f}, median {statistics.median(ratios):.3f}, "
        f"{min(ratios):.3f} to {max(ratios):.3f}"
    )


if __name__ == "__main__":
    main()
