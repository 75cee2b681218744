"""N-grams, a draft model, and both: tokens per round and what the board spends, in copying tasks.

Summaries and answers about a text (Spec-Bench) repeat parts of it.  One verifier in float32 on one
core, on the other one a board for each line of the table; a prompt goes to all of them before the
next one, so that whatever else the machine does meets all alike.
"""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from tests.benchmarks.clients import Answer, ask
from tests.benchmarks.fleet import fleet
from tests.support.chats.prompt_set import DRAFTS

PROMPTS = Path(__file__).parents[3] / "shared" / "data" / "prompts.jsonl"
DOMAINS = ("summarization", "rag")
MAX_PROMPT_CHARACTERS = 4000  # some 1,000 tokens
VERIFIER = {"rounds.budget_tokens": 24, "target.dtype": "float32", "target.threads": 1}
AGENT = {"draft.threads": 1, "draft.batch_threads": 1}
SAMPLINGS: dict[str, dict[str, object]] = {
    "greedy": {"temperature": 0},
    "coupled": {"temperature": 0.8, "seed": 7},
    "rejection": {"temperature": 0.8, "goodspeed": {"acceptance_mode": "rejection"}},
}


@dataclass(frozen=True)
class Arm:
    """One board: its draft model ("": none) and the longest n-gram it looks up (0: none)."""

    name: str
    draft: str
    ngram_tokens: int


ARMS = (
    Arm("Q4_1", DRAFTS[0], 0),
    Arm("Q4_1 and n-grams", DRAFTS[0], 4),
    Arm("Q2_K", DRAFTS[2], 0),
    Arm("Q2_K and n-grams", DRAFTS[2], 4),
    Arm("n-grams", "", 4),
)


@dataclass
class Sums:
    """What the answers of one arm came to."""

    num_tokens: int = 0
    num_verdicts: int = 0
    decode_seconds: float = 0.0
    board_seconds: float = 0.0
    per_prompt: list[float] = field(default_factory=list)  # tokens per round

    def add(self, answer: Answer, board_seconds: float) -> None:
        num_verdicts = answer.goodspeed["num_verdicts"]
        self.num_tokens += answer.output_tokens
        self.num_verdicts += num_verdicts
        self.decode_seconds += answer.figures["predicted_ms"] / 1000
        self.board_seconds += board_seconds
        self.per_prompt.append(answer.output_tokens / num_verdicts)

    def row(self) -> str:
        """Cells of the table."""
        lower, _, upper = statistics.quantiles(self.per_prompt, n=4)
        return (
            f"{self.num_tokens / self.num_verdicts:.2f} ({lower:.2f} to {upper:.2f}) "
            f"| {1000 * self.board_seconds / self.num_tokens:.1f} "
            f"| {self.num_tokens / self.decode_seconds:.1f}"
        )


def prompts_of(file: Path, domain: str, number: int) -> list[str]:
    """The first prompts of a domain that fit the context."""
    entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    texts = [entry["turns"][0] for entry in entries if entry["domain"] == domain]
    return [text for text in texts if len(text) <= MAX_PROMPT_CHARACTERS][:number]


def process_seconds(port: int) -> float:
    """CPU seconds of the agent that serves this port."""
    wanted = f"--set=api.port={port}".encode()
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (directory / "cmdline").read_bytes().split(b"\0"):
                fields = (directory / "stat").read_text().rpartition(")")[2].split()
                return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            continue
    raise SystemExit(f"no agent serves port {port}")


def measure(
    ports: Sequence[int], texts: Sequence[str], num_tokens: int, fields: dict[str, object]
) -> dict[str, Sums]:
    """Every prompt by every arm."""
    sums = {arm.name: Sums() for arm in ARMS}
    for i, text in enumerate(texts):
        for j in range(len(ARMS)):
            at = (i + j) % len(ARMS)  # each arm begins as often
            before = process_seconds(ports[at])
            answer = ask(ports[at], text, max_tokens=num_tokens, **fields)
            sums[ARMS[at].name].add(answer, process_seconds(ports[at]) - before)
    return sums


@click.command(help=__doc__)
@click.option("--prompts", type=click.Path(path_type=Path, exists=True), default=PROMPTS)
@click.option("--number", default=6, help="prompts of each domain")
@click.option("--tokens", default=96, help="tokens of each answer")
@click.option("--sampling", "names", type=click.Choice(list(SAMPLINGS)), multiple=True)
def main(prompts: Path, number: int, tokens: int, names: tuple[str, ...]) -> None:
    """Print one table."""
    drafts = [arm.draft for arm in ARMS]
    own = [{"draft.ngram_tokens": arm.ngram_tokens} for arm in ARMS]
    with fleet(
        drafts,
        verifier_settings=VERIFIER,
        agent_settings=AGENT,
        own_settings=own,
        verifier_cores={0},
        agent_cores={1},
    ) as running:
        for port in running.agent_ports:  # warm caches, teach the estimators
            ask(port, prompts_of(prompts, DOMAINS[0], 1)[0], max_tokens=32, temperature=0)
        click.echo("| domain | sampling | drafter | tokens/round (quartiles of prompts) ", nl=False)
        click.echo("| board CPU ms/token | tokens/s |\n|---|---|---|---|---|---|")
        for domain in DOMAINS:
            for name in names or SAMPLINGS:
                texts = prompts_of(prompts, domain, number)
                results = measure(running.agent_ports, texts, tokens, SAMPLINGS[name])
                for arm, sums in results.items():
                    click.echo(f"| {domain} | {name} | {arm} | {sums.row()} |")


if __name__ == "__main__":
    main()
