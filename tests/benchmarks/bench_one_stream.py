"""One stream, greedy, float32: tokens/s with a Q4_1 board against the target alone.

Both arms go through the same running verifier; speculation is switched by the request, prompt by
prompt, so that whatever else the machine does meets both.
"""

from __future__ import annotations

import statistics
import sys

from tests.benchmarks.clients import ask
from tests.benchmarks.fleet import fleet
from tests.support.chats.prompt_set import DRAFTS, prompts

NUM_TOKENS = 96
NUM_REPEATS = 3
VERIFIER = {"rounds.budget_tokens": 24, "target.dtype": "float32"}
AGENT = {"draft.threads": 1, "draft.batch_threads": 1}


def main(draft: str = DRAFTS[0]) -> None:
    """Print tokens/s of both arms and their ratio for every repeat."""
    with fleet([draft], verifier_settings=VERIFIER, agent_settings=AGENT) as running:
        (port,) = running.agent_ports
        for _ in range(2):  # warm caches, teach the estimators
            ask(port, prompts()[0].text, max_tokens=32, temperature=0)
        print("| repeat | drafts tokens/s | alone tokens/s | ratio | acceptance | tokens/round |")
        print("|---|---|---|---|---|---|")
        ratios = [_repeat(port, number) for number in range(NUM_REPEATS)]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"\nmedian ratio {statistics.median(ratios):.2f}, {spread} over {NUM_REPEATS} repeats")


def _repeat(port: int, number: int) -> float:
    seconds = {True: 0.0, False: 0.0}
    tokens = {True: 0, False: 0}
    accepted = rejections = verdicts = 0
    for prompt in prompts():
        for drafts in (True, False):
            fields = {} if drafts else {"goodspeed": {"draft_length": 0}}
            answer = ask(port, prompt.text, max_tokens=NUM_TOKENS, temperature=0, **fields)
            seconds[drafts] += answer.figures["predicted_ms"] / 1000
            tokens[drafts] += answer.output_tokens - 1
            if drafts:
                accepted += answer.goodspeed["survived_tokens"]
                rejections += answer.goodspeed["rejections"]
                verdicts += answer.goodspeed["num_verdicts"]
    with_drafts, alone = (tokens[arm] / seconds[arm] for arm in (True, False))
    acceptance = accepted / (accepted + rejections)
    per_round = tokens[True] / verdicts
    ratio = with_drafts / alone
    print(
        f"| {number} | {with_drafts:.1f} | {alone:.1f} | {ratio:.2f} "
        f"| {acceptance:.3f} | {per_round:.2f} |",
        flush=True,
    )
    return ratio


if __name__ == "__main__":
    main(*sys.argv[1:])
