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
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import NamedTuple

import click

from shared.protocol.messages import AcceptanceMode
from tests.benchmarks.clients import ask
from tests.benchmarks.fleet import Fleet, fleet
from tests.support.chats.prompt_set import DRAFTS, prompts

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
_OUTPUT = "goodspeed_goodput_tokens_total"
_TESTED = "goodspeed_spec_decode_num_draft_tokens_total"
_MEASURED = "goodspeed_drafts_over_none_ratio"
_LOST = "goodspeed_payoff_lost_seconds_total"


class Asking(NamedTuple):
    """What each board asks in a run."""

    num_prompts: int
    mode: AcceptanceMode
    temperature: float


class Run(NamedTuple):
    """What one run of an arm came to, while all boards chatted."""

    tokens_per_second: float  # of all together
    num_tested: int  # draft tokens
    measured: float  # what the verifier has measured: with drafts over without; 0: nothing


@click.command()
@click.option("--pairs", "num_pairs", default=10, help="Runs of each arm.")
@click.option("--prompts", "num_prompts", default=3, help="Questions of each board in a run.")
@click.option("--boards", "num_boards", default=3, help="Boards, each with another draft model.")
@click.option("--mode", type=click.Choice(["coupled", "rejection"]), default="coupled")
@click.option("--temperature", default=0.8, help="The higher, the less is accepted.")
@click.option("--core", "cores", type=int, multiple=True, help="That all programs share.")
@click.option("--set", "settings", multiple=True, help="SECTION.KEY=VALUE of the verifier.")
def main(
    num_pairs: int,
    num_prompts: int,
    num_boards: int,
    mode: AcceptanceMode,
    temperature: float,
    cores: Sequence[int],
    settings: Sequence[str],
) -> None:
    """Print tokens/s of both arms, their ratio for every pair, and its spread."""
    own = dict(one.split("=", 1) for one in settings)
    with fleet(
        DRAFTS[:num_boards],
        verifier_settings={**VERIFIER, **_values(own)},
        agent_settings=AGENT,
        verifier_cores=set(cores) or None,
        agent_cores=set(cores) or None,
    ) as running:
        asking = Asking(num_prompts, mode, temperature)
        _learn(running, asking)
        ratios = []
        print("| pair | drafts allowed tokens/s | off tokens/s | ratio | drafts | measured |")
        print("|---|---|---|---|---|---|")
        for number in range(num_pairs):
            arms = (True, False) if number % 2 else (False, True)
            runs = {drafts: _run(running, asking, drafts=drafts) for drafts in arms}
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
        learning = _run(running, asking, drafts=True)
        if learning.measured:
            break
    lost_seconds = _scrape(running)[_LOST]
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


def _values(settings: Mapping[str, str]) -> dict[str, object]:
    words: dict[str, object] = {"true": True, "false": False}
    return {
        key: words[value] if value in words else int(value) if value.isdigit() else value
        for key, value in settings.items()
    }


def _run(running: Fleet, asking: Asking, *, drafts: bool) -> Run:
    extension: dict[str, object] = {"acceptance_mode": asking.mode}
    if not drafts:
        extension["draft_length"] = 0

    def chat(number: int, port: int) -> None:
        own = prompts()[number :: len(running.agent_ports)][: asking.num_prompts]
        for prompt in own:
            sampling = {"temperature": asking.temperature, "top_p": 0.95, "seed": 7}
            ask(port, prompt.text, max_tokens=NUM_TOKENS, **sampling, goodspeed=extension)

    before, started_at = _scrape(running), time.monotonic()
    with ThreadPoolExecutor(len(running.agent_ports)) as threads:
        chats = [threads.submit(chat, i, port) for i, port in enumerate(running.agent_ports)]
        wait(chats, return_when=FIRST_COMPLETED)
        seconds = time.monotonic() - started_at
        after = _scrape(running)
        for one in chats:
            one.result()
    num_tested = int(after[_TESTED] - before[_TESTED])
    return Run((after[_OUTPUT] - before[_OUTPUT]) / seconds, num_tested, after[_MEASURED])


def _scrape(running: Fleet) -> dict[str, float]:
    """Of each metric the sum over devices."""
    url = f"http://127.0.0.1:{running.verifier.port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as page:
        lines = page.read().decode().splitlines()
    sums: defaultdict[str, float] = defaultdict(float)
    for line in lines:
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            sums[name.partition("{")[0]] += float(value)
    return sums


if __name__ == "__main__":
    main()
