"""Bytes on the wire for each output token, for three drafts at the lengths of the policy.

Websocket payloads and frame headers of drafts and verdicts; one board chats at a time.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.benchmarks.clients import ask
from tests.benchmarks.fleet import fleet
from tests.support.chats.prompt_set import DRAFTS, prompts

NUM_TOKENS = 96
VERIFIER = {"rounds.budget_tokens": 24, "target.dtype": "float32"}
AGENT = {"draft.threads": 1, "draft.batch_threads": 1}
ARMS: Mapping[str, Mapping[str, object]] = {
    "greedy": {"temperature": 0},
    "coupled 0.8, top-p 0.95": {"temperature": 0.8, "top_p": 0.95, "seed": 1},
    "rejection 0.8, top-p 0.95": {
        "temperature": 0.8,
        "top_p": 0.95,
        "goodspeed": {"acceptance_mode": "rejection"},
        "seed": 1,
    },
    "rejection 1.0": {
        "temperature": 1,
        "goodspeed": {"acceptance_mode": "rejection"},
        "seed": 1,
    },
}


def main() -> None:
    """Print one row for each draft and arm."""
    with fleet(DRAFTS, verifier_settings=VERIFIER, agent_settings=AGENT) as running:
        print("| draft | mode | bytes/token | acceptance | drafted/verdict | tokens/round |")
        print("|---|---|---|---|---|---|")
        for draft, port in zip(DRAFTS, running.agent_ports, strict=True):
            for name, fields in ARMS.items():
                print(f"| {draft} | {name} | {_row(port, fields)} |", flush=True)


def _row(port: int, fields: Mapping[str, object]) -> str:
    ask(port, prompts()[0].text, max_tokens=48, **fields)  # teaches the estimator this mode
    answers = [ask(port, prompt.text, max_tokens=NUM_TOKENS, **fields) for prompt in prompts()]

    def total(name: str) -> int:
        return sum(answer.goodspeed[name] for answer in answers)

    num_tokens = sum(answer.output_tokens for answer in answers)
    drafted = sum(answer.figures["draft_n"] for answer in answers)
    acceptance = total("survived_tokens") / (total("survived_tokens") + total("rejections"))
    verdicts = total("num_verdicts")
    return (
        f"{total('wire_bytes') / num_tokens:.1f} | {acceptance:.3f} "
        f"| {drafted / verdicts:.2f} | {num_tokens / verdicts:.2f}"
    )


if __name__ == "__main__":
    main()
