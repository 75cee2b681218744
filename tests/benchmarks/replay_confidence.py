"""What confidence is worth: fixed lengths against cutting by survival, on recorded texts.

`record` lets SmolLM2-135M write (Q4_1 by llama.cpp, greedy) and notes for each token whether its
Q4_0 and Q2_K drafts would have drawn the same and how sure they were: no token is kept. `replay`
plays a board that is always ahead over these texts, among N alike, in rounds that cost
c0 + c1·N × (1 + tested tokens): once with the best fixed length, once testing as long as the
product of calibrated chances stays above a threshold. Calibration, length and threshold are those
of the other half of the texts; speeds are of the target alone.

    python -m tests.benchmarks.replay_confidence record --out traces.jsonl
    python -m tests.benchmarks.replay_confidence record --part 3/24 --out traces3.jsonl
    python -m tests.benchmarks.replay_confidence replay traces.jsonl
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import msgspec
import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer

from edge_agent.draft_model.drafter import Forward
from edge_agent.draft_model.llama_drafter import LlamaDrafter
from shared.config.model_files import cached_path, default_cache_dir
from shared.speculation.calibration import CELL_OF, Calibration, StreamFactor, Way
from shared.speculation.logits_confidence import confidence_of_logits
from tests.benchmarks.bench_ngram import PROMPTS
from tests.support.chats.prompt_set import DRAFTS, TARGET

CONTEXT_TOKENS = 1024
NUM_SLOTS = 8
PRICES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0)  # c1 · N / c0: what a tested token adds to a round
LENGTHS = range(17)
# The last one tests nothing.
THRESHOLDS = (*np.geomspace(0.02, 0.95, 16).tolist(), 1.01)


class Trace(msgspec.Struct, frozen=True):
    """One text and one draft: by position, whether it drafts the same, and how sure it is."""

    draft: str
    prompt: str
    accepted: list[bool]
    confidences: list[int]


@click.group()
def main() -> None:
    """Record texts, or replay them."""


@main.command()
@click.option("--prompts", type=click.Path(path_type=Path, exists=True), default=PROMPTS)
@click.option("--texts", default=240)
@click.option("--tokens", default=96)
@click.option("--threads", default=1)
@click.option("--part", default="1/1", show_default=True, help="Of the texts, by a process each.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
def record(prompts: Path, texts: int, tokens: int, threads: int, part: str, out: Path) -> None:
    """Let the models write."""
    number, num_parts = map(int, part.split("/"))
    directory = default_cache_dir(os.environ)
    models = [
        LlamaDrafter(cached_path(directory, name), NUM_SLOTS, CONTEXT_TOKENS, threads, threads)
        for name in (TARGET, *DRAFTS[1:])
    ]
    tokenizer = AutoTokenizer.from_pretrained(directory, gguf_file=f"{TARGET}.gguf")
    entries = [json.loads(line) for line in prompts.read_text(encoding="utf-8").splitlines()]
    entries.sort(key=lambda entry: entry["id"].rpartition("/")[2])  # all domains from the start on
    waiting = []
    for entry in entries:
        turns = [{"role": "user", "content": (entry.get("turns") or [entry.get("prompt")])[0]}]
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        if len(ids) + tokens < CONTEXT_TOKENS // 2:
            waiting.append((entry["id"], tuple(ids)))
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")}
    own = waiting[:texts][number - 1 :: num_parts]
    num_written = 0
    with out.open("w", encoding="utf-8") as file:
        for first in range(0, len(own), NUM_SLOTS):
            written = _write(models, own[first : first + NUM_SLOTS], tokens, ends)
            for trace in written:
                file.write(msgspec.json.encode(trace).decode() + "\n")
            file.flush()
            num_written += sum(len(trace.accepted) for trace in written) // 2
            click.echo(f"{first + NUM_SLOTS} texts, {num_written} tokens", err=True)


def _write(
    models: Sequence[LlamaDrafter],
    prompts: Sequence[tuple[str, tuple[int, ...]]],
    num_tokens: int,
    ends: set[int],
) -> list[Trace]:
    traces = [[Trace(draft, name, [], []) for draft in DRAFTS[1:]] for name, _ in prompts]
    feeds = dict(enumerate([prompt_ids for _, prompt_ids in prompts]))
    for model in models:
        for slot in range(NUM_SLOTS):
            model.truncate(slot, 0)
    for _ in range(num_tokens):
        if not feeds:
            break
        batch = [Forward(slot, token_ids) for slot, token_ids in feeds.items()]
        target_rows, *rows_of_drafts = [_rows(model, batch) for model in models]
        for i, slot in enumerate(list(feeds)):
            said = int(np.argmax(target_rows[i]))
            for trace, rows in zip(traces[slot], rows_of_drafts, strict=True):
                trace.accepted.append(int(np.argmax(rows[i])) == said)
                trace.confidences.append(confidence_of_logits(rows[i]))
            feeds[slot] = (said,)
            if said in ends:
                del feeds[slot]
    return [trace for of_text in traces for trace in of_text if trace.accepted]


def _rows(model: LlamaDrafter, batch: Sequence[Forward]) -> list[NDArray[np.float32]]:
    return [row for row in model.forward(batch) if row is not None]


@main.command()
@click.argument("traces", type=click.Path(path_type=Path, exists=True))
def replay(traces: Path) -> None:
    """Print what confidence is worth."""
    recorded = [
        msgspec.json.decode(line, type=Trace)
        for line in traces.read_text(encoding="utf-8").splitlines()
    ]
    names = sorted({trace.draft for trace in recorded})
    for name in names:
        of_draft = [trace for trace in recorded if trace.draft == name]
        halves = of_draft[::2], of_draft[1::2]
        num_tokens = sum(len(trace.accepted) for trace in of_draft)
        rate = sum(sum(trace.accepted) for trace in of_draft) / num_tokens
        print(f"\n{name}: {len(of_draft)} texts, {num_tokens} tokens, acceptance {rate:.3f}\n")
        print("| c1·N/c0 | fixed | confidence | gain | with the stream's factor | gain |")
        print("|---|---|---|---|---|---|")
        for price in PRICES:
            print(f"| {price:g} | {_row(halves, price)} |", flush=True)


def _row(halves: tuple[list[Trace], list[Trace]], price: float) -> str:
    speeds = np.zeros(3)
    for tested, other in (halves, halves[::-1]):
        maps = _calibrated(other)
        length = max(LENGTHS, key=lambda length: _speed(other, _fixed(length), price))
        arms: list[Callable[[], Chooser]] = [_fixed(length)]
        for uses_factor in (False, True):
            best = max(
                THRESHOLDS,
                key=lambda least: _speed(other, _sure(maps, least, uses_factor), price),
            )
            arms.append(_sure(maps, best, uses_factor))
        speeds += [_speed(tested, arm, price) for arm in arms]
    fixed, sure, followed = speeds / 2.0
    return (
        f"{fixed:.3f} | {sure:.3f} | {100 * (sure / fixed - 1):+.1f} % "
        f"| {followed:.3f} | {100 * (followed / fixed - 1):+.1f} %"
    )


class Chooser:
    """How many of the next tokens a round tests; learns from what became of them."""

    def __init__(
        self, length: int, least: float, maps: Calibration | None, *, follows: bool
    ) -> None:
        self._length, self._least, self._maps, self._follows = length, least, maps, follows
        self._factor = StreamFactor()

    def choose(self, confidences: Sequence[int]) -> int:
        """Tokens to test of those to come."""
        if self._maps is None:
            return min(self._length, len(confidences))
        hazards, factor = self._maps.hazards[Way.GREEDY], self._factor.value
        total = 0.0
        for i, confidence in enumerate(confidences[: LENGTHS[-1]]):
            total += factor * hazards[CELL_OF[confidence]]
            if math.exp(-total) < self._least:
                return i
        return min(len(confidences), LENGTHS[-1])

    def learn(self, confidences: Sequence[int], num_accepted: int) -> None:
        """These were reached."""
        if self._maps is not None and self._follows and confidences:
            expected = self._maps.expected_rejections(Way.GREEDY, bytes(confidences))
            self._factor.observe(expected, int(num_accepted < len(confidences)))


def _fixed(length: int) -> Callable[[], Chooser]:
    return lambda: Chooser(length, 0.0, None, follows=False)


def _sure(maps: Calibration, least: float, follows: bool) -> Callable[[], Chooser]:
    return lambda: Chooser(0, least, maps, follows=follows)


def _calibrated(traces: Sequence[Trace]) -> Calibration:
    maps = Calibration()
    for trace in traces:
        for accepted, confidence in zip(trace.accepted, trace.confidences, strict=True):
            maps.observe(Way.GREEDY, bytes([confidence]), int(accepted))
    return maps


def _speed(traces: Sequence[Trace], arm: Callable[[], Chooser], price: float) -> float:
    """Tokens by rounds of the target alone."""
    num_tokens, seconds = 0, 0.0
    for trace in traces:
        chooser, position, end = arm(), 0, len(trace.accepted)
        while position < end:
            ahead = trace.confidences[position : position + LENGTHS[-1]]
            num_tested = chooser.choose(ahead)
            bits = trace.accepted[position : position + num_tested]
            num_accepted = [*bits, False].index(False)
            chooser.learn(ahead[: min(num_accepted + 1, num_tested)], num_accepted)
            gained = min(num_accepted + 1, end - position)
            num_tokens += gained
            seconds += (1.0 + price * (1 + num_tested)) / (1.0 + price)
            position += gained
    return num_tokens / seconds


if __name__ == "__main__":
    main()
