"""One stream: tokens/s with a board against the target alone, both on the cores that they share.

Both arms go through the same running verifier; speculation is switched by the request, prompt by
prompt, so that whatever else the machine does meets both.

    taskset -c 0,1 python -m tests.benchmarks.bench_one_stream --draft smollm2-18m
    … --temperature 0.8 --set rounds.policy=fixed --set rounds.budget_tokens=4   # always 4 tokens
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import click

from tests.benchmarks.clients import ask
from tests.benchmarks.fleet import Fleet, fleet, setting_of
from tests.support.chats.prompt_set import DRAFTS, prompts

VERIFIER = {"rounds.budget_tokens": 24, "target.dtype": "float32"}
AGENT = {"draft.threads": 1, "draft.batch_threads": 1}


@click.command()
@click.option("--draft", default=DRAFTS[0], show_default=True)
@click.option("--temperature", default=0.0, show_default=True, help="Above 0: coupled, top-p 0.95.")
@click.option("--prompts", "num_prompts", default=16, show_default=True)
@click.option("--tokens", "num_tokens", default=96, show_default=True)
@click.option("--repeats", "num_repeats", default=3, show_default=True)
@click.option("--set", "settings", multiple=True, help="SECTION.KEY=VALUE of the verifier.")
@click.option("--agent-set", "agent_settings", multiple=True, help="The same of the agent.")
def main(
    draft: str,
    temperature: float,
    num_prompts: int,
    num_tokens: int,
    num_repeats: int,
    settings: Sequence[str],
    agent_settings: Sequence[str],
) -> None:
    """Print tokens/s of both arms and their ratio for every repeat."""
    verifier, agent = dict(map(setting_of, settings)), dict(map(setting_of, agent_settings))
    with fleet(
        [draft], verifier_settings={**VERIFIER, **verifier}, agent_settings={**AGENT, **agent}
    ) as running:
        (port,) = running.agent_ports
        sampling = {"temperature": temperature, "top_p": 0.95, "seed": 7}
        for _ in range(2):  # warm caches, teach the estimators
            ask(port, prompts()[0].text, max_tokens=32, **sampling)
        print(
            "| repeat | drafts tokens/s | alone tokens/s | ratio | acceptance | tokens/round "
            "| rounds with drafts | sent of each | ms a round | alone |\n" + "|---" * 10 + "|"
        )
        ratios = []
        for number in range(num_repeats):
            ratios.append(_repeat(running, number, num_prompts, num_tokens, sampling))
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"\nmedian ratio {statistics.median(ratios):.2f}, {spread} over {num_repeats} repeats")


def _repeat(
    running: Fleet, number: int, num_prompts: int, num_tokens: int, sampling: dict[str, float]
) -> float:
    (port,) = running.agent_ports
    seconds = {True: 0.0, False: 0.0}
    tokens = {True: 0, False: 0}
    rounds = {True: 0, False: 0}
    accepted = rejections = drafting = tested = 0
    for prompt in prompts()[:num_prompts]:
        for drafts in (True, False):
            fields = {} if drafts else {"goodspeed": {"draft_length": 0}}
            answer = ask(port, prompt.text, max_tokens=num_tokens, **sampling, **fields)
            seconds[drafts] += answer.figures["predicted_ms"] / 1000
            tokens[drafts] += answer.output_tokens - 1
            rounds[drafts] += answer.goodspeed["num_verdicts"]
            if drafts:
                accepted += answer.goodspeed["survived_tokens"]
                rejections += answer.goodspeed["rejections"]
                drafting += answer.goodspeed["num_drafting_verdicts"]
                tested += answer.figures.get("draft_n", 0)
    with_drafts, alone = (tokens[arm] / seconds[arm] for arm in (True, False))
    ratio = with_drafts / alone
    figures = [
        f"{with_drafts:.1f} | {alone:.1f} | {ratio:.2f}",
        f"{accepted / max(1, accepted + rejections):.3f} | {tokens[True] / rounds[True]:.2f}",
        f"{drafting / rounds[True]:.2f} | {tested / max(1, drafting):.2f}",
        *(f"{1e3 * seconds[arm] / rounds[arm]:.1f}" for arm in (True, False)),
    ]
    print(f"| {number} | {' | '.join(figures)} |", flush=True)
    return ratio


if __name__ == "__main__":
    main()
