"""Time to first token with a board attached against the target alone.

Verifier and agent are pinned to one core each in both arms; the arms take turns, so that
whatever else the machine does meets both.
"""

from __future__ import annotations

import statistics

from tests.benchmarks.clients import ask
from tests.benchmarks.fleet import fleet
from tests.support.chats.prompt_set import DRAFTS, Prompt, prompts

NUM_REPEATS = 7
VERIFIER = {"rounds.budget_tokens": 24, "target.dtype": "float32", "target.threads": 1}
AGENT = {"draft.threads": 1, "draft.batch_threads": 1}


def main() -> None:
    """Print the median time to first token of both arms for every prompt length, and the ratio."""
    with fleet(
        DRAFTS[:1],
        verifier_settings=VERIFIER,
        agent_settings=AGENT,
        verifier_cores={0},
        agent_cores={1},
    ) as running:
        (port,) = running.agent_ports
        ask(port, prompts()[0].text, max_tokens=32, temperature=0)
        print("| prompt tokens | board s | alone s | ratio |")
        print("|---|---|---|---|")
        ratios = [_row(port, prompt) for prompt in _by_length()]
    print(f"\ngeometric mean of the ratios {statistics.geometric_mean(ratios):.3f}")


def _row(port: int, prompt: Prompt) -> float:
    seconds: dict[bool, list[float]] = {True: [], False: []}
    num_tokens = 0
    for _ in range(NUM_REPEATS):
        for drafts in (True, False):
            fields = {} if drafts else {"goodspeed": {"draft_length": 0}}
            answer = ask(port, prompt.text, max_tokens=8, temperature=0, **fields)
            seconds[drafts].append(answer.first_token_seconds)
            num_tokens = answer.figures["prompt_n"]
    board, alone = (statistics.median(seconds[arm]) for arm in (True, False))
    print(f"| {num_tokens} | {board:.3f} | {alone:.3f} | {board / alone:.3f} |", flush=True)
    return board / alone


def _by_length() -> list[Prompt]:
    """Four prompts from the shortest to the longest."""
    ordered = sorted(prompts(), key=lambda prompt: len(prompt.text))
    return [ordered[i] for i in (0, 5, 10, 15)]


if __name__ == "__main__":
    main()
