"""N-grams, a draft model, and both, in virtual time: tokens/s and drafting time at many speeds.

Records what SmolLM2-135M writes (Q4_1 by llama.cpp, greedy and at temperature 0.8) and where its
Q2_K draft would have drawn the same; then board and verifier write it again, as fast as the table
says.  Beside the Q2_K draft stands one that agrees at random, 96 times of 100, as Q4_1 does.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
import msgspec
import numpy as np
from transformers import AutoTokenizer

from edge_agent.draft_model.drafter import Forward
from edge_agent.draft_model.llama_drafter import LlamaDrafter
from edge_agent.drafting.drafter_choice import drafter_rates
from edge_agent.drafting.settings import DraftSettings
from shared.config.model_files import cached_path, default_cache_dir
from shared.speculation.probabilities import dense_probabilities
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.benchmarks.bench_ngram import MAX_PROMPT_CHARACTERS, PROMPTS, prompts_of
from tests.support.chats.prompt_set import DRAFTS, TARGET
from tests.support.models.ngram_replay import CONTEXT_TOKENS, Outcome, Speeds, Text, replay

DOMAINS = ("summarization", "rag", "mt_bench", "humaneval", "math_reasoning")
SAMPLINGS = {"greedy": GREEDY, "0.8": SamplingParameters(0.8, top_p=0.95)}
SPEEDS = (
    Speeds(0.06, 0.002, 0.0064, 0.0015, 0.0),
    Speeds(0.06, 0.002, 0.0064, 0.0015, 0.1),
    Speeds(0.06, 0.002, 0.02, 0.0015, 0.0),
    Speeds(0.06, 0.002, 0.02, 0.0015, 0.1),
    Speeds(0.06, 0.002, 0.05, 0.0015, 0.0),
    Speeds(0.025, 0.0005, 0.0125, 0.0015, 0.0),
)
ARMS = {"model": (0, True), "both": (4, True), "n-grams": (4, False)}


def record(prompts: Path, number: int, num_tokens: int) -> list[Text]:
    """Let the models write."""
    directory = default_cache_dir(os.environ)
    target, draft = (
        LlamaDrafter(cached_path(directory, name), 1, CONTEXT_TOKENS // 2, 1, 2)
        for name in (TARGET, DRAFTS[2])
    )
    tokenizer = AutoTokenizer.from_pretrained(directory, gguf_file=f"{TARGET}.gguf")
    texts = []
    for domain in DOMAINS:
        for prompt in prompts_of(prompts, domain, number):
            assert len(prompt) <= MAX_PROMPT_CHARACTERS
            turns = [{"role": "user", "content": prompt}]
            prompt_ids = tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, return_dict=False
            )
            for name in SAMPLINGS:
                texts.append(_written(target, draft, domain, name, prompt_ids, num_tokens))
    return texts


def _written(
    target: LlamaDrafter,
    draft: LlamaDrafter,
    domain: str,
    sampling: str,
    prompt_ids: Sequence[int],
    num_tokens: int,
) -> Text:
    for model in (target, draft):
        model.truncate(0, 0)
    random_numbers = np.random.default_rng(1)
    fed, output_ids, agrees = tuple(prompt_ids), [], []
    while len(output_ids) < num_tokens:
        (target_logits,), (draft_logits,) = (m.forward([Forward(0, fed)]) for m in (target, draft))
        assert target_logits is not None
        assert draft_logits is not None
        probs, draft_probs = (
            dense_probabilities(row, SAMPLINGS[sampling]) for row in (target_logits, draft_logits)
        )
        output_ids.append(int(random_numbers.choice(len(probs), p=probs)))
        common = float(np.minimum(probs, draft_probs).sum())
        agrees.append(bool(random_numbers.random() < common))
        fed = (output_ids[-1],)
        if output_ids[-1] in target.special_ids:
            break
    return Text(domain, sampling, tuple(prompt_ids), tuple(output_ids), tuple(agrees))


def compare(texts: Sequence[Text], speeds: Speeds) -> dict[str, tuple[float, float, float]]:
    """Tokens per round, tokens per second and drafting milliseconds per token of each arm."""
    found = {}
    for name, (ngram_tokens, has_model) in ARMS.items():
        settings = DraftSettings(8, 0.0, 64, CONTEXT_TOKENS, ngram_tokens, has_model)
        rates = drafter_rates()
        found[name] = _figures(replay(text, settings, rates, speeds) for text in texts)
    return found


def _figures(outcomes: Iterable[Outcome]) -> tuple[float, float, float]:
    done = list(outcomes)
    num_tokens = sum(outcome.num_tokens for outcome in done)
    return (
        num_tokens / sum(outcome.num_rounds for outcome in done),
        num_tokens / sum(outcome.seconds for outcome in done),
        1000 * sum(outcome.drafting_seconds for outcome in done) / num_tokens,
    )


def _at_random(text: Text, rate: float) -> Text:
    numbers = random.Random(json.dumps(text.output_ids))
    agrees = tuple(numbers.random() < rate for _ in text.output_ids)
    return msgspec.structs.replace(text, agrees=agrees)


@click.command(help=__doc__)
@click.option("--prompts", type=click.Path(path_type=Path, exists=True), default=PROMPTS)
@click.option("--number", default=3, help="prompts of each domain")
@click.option("--tokens", default=120, help="tokens of each answer")
@click.option("--texts", "record_file", type=click.Path(path_type=Path), help="keeps the record")
def main(prompts: Path, number: int, tokens: int, record_file: Path | None) -> None:
    """Print one table; in each cell tokens/round, tokens/s, drafting ms/token."""
    if record_file is not None and record_file.exists():
        texts = msgspec.json.decode(record_file.read_bytes(), type=list[Text])
    else:
        texts = record(prompts, number, tokens)
    if record_file is not None:
        record_file.write_bytes(msgspec.json.encode(texts))
    click.echo(
        "| round, draft, round trip ms | texts | draft | model | both | n-grams | both/best |"
    )
    click.echo("|---|---|---|---|---|---|---|")
    for speeds in SPEEDS:
        times = (speeds.round_seconds, speeds.draft_seconds, speeds.round_trip_seconds)
        label = ", ".join(f"{1000 * seconds:g}" for seconds in times)
        for is_copying, name in ((True, "summaries, rag"), (False, "others")):
            chosen = [t for t in texts if (t.domain in ("summarization", "rag")) == is_copying]
            for draft in ("Q2_K", "0.96"):
                if draft == "0.96":
                    chosen = [_at_random(text, 0.96) for text in chosen]
                found = compare(chosen, speeds)
                cells = " | ".join(
                    "{:.2f}, {:.1f}, {:.1f}".format(*figures) for figures in found.values()
                )
                ratio = found["both"][1] / max(found["model"][1], found["n-grams"][1])
                click.echo(f"| {label} | {name} | {draft} | {cells} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
