"""What a grammar costs: the rounds of streams that are held to one, beside rounds of free ones.

Llama-3's vocabulary of 128,256 tokens, and a target that takes as long as it is told and draws
any token that may come: what is measured is what planner, masks and event loop add, not what a
GPU needs to rule tokens out. Streams never end, so that all rounds are alike.
`python -m tests.benchmarks.bench_grammar` prints a table of rounds, then one of masks.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import statistics
import time
from collections.abc import Sequence
from functools import partial

import click
import numpy as np

from shared.protocol.grammar import Grammar
from shared.protocol.messages import Open
from shared.protocol.token_ids import pack_token_ids
from tests.support.ends.loopback import make_service, round_settings
from tests.support.models.packaged_tokenizers import llama_3_tokenizer
from tests.verifier.engine.test_service import Mailbox
from verifier.engine.engine import RoundReport
from verifier.grammar.grammars import Grammars
from verifier.target.masked_check import (
    MOST_WAIT_SECONDS,
    MaskedCheck,
    begin_masks,
    masked_check,
)
from verifier.target.round import ItemOutcome, Round, RoundItem, RoundOutcome
from verifier.torch_target.loading.tokenizer import HuggingFaceTokenizer

VOCAB_SIZE = 128_256
SCHEMA = {
    "type": "array",
    "minItems": 100_000,
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
            "kind": {"enum": ["dog", "cat", "ferret"]},
        },
        "required": ["name", "age", "tags", "kind"],
        "additionalProperties": False,
    },
}
GRAMMARS = {
    "JSON schema": Grammar("json_schema", json.dumps(SCHEMA)),
    "any JSON object": Grammar(
        "lark", 'start: ("{" /"[a-z ]*": [0-9]+,?/ "}")+ NEVER\nNEVER: "\\x00"'
    ),
    "regex": Grammar("regex", r"([A-Za-z]{2,10} [0-9]{1,4}[,.] )+\x00"),
}


NUM_HOSTILE = 4  # streams at once; each that ends is followed by another
HOSTILE = {
    "an ambiguous grammar": Grammar("lark", "start: s\ns: s s | /[a-z ]/ | s s s"),
    "a dear regex": Grammar("regex", r"(.*a){30}b{1000}"),
    "a long text": Grammar(
        "lark", 'start: "' + "".join(chr(97 + i * i % 26) for i in range(60_000)) + '"'
    ),
    "many properties": Grammar(
        "json_schema", json.dumps({"properties": {f"p{i}": {} for i in range(4000)}})
    ),
}


class TimedTarget:
    """Implements `TargetModel`: a round takes so long, whatever it holds."""

    model_name = "timed"
    vocab_size = VOCAB_SIZE
    context_tokens = 100_000
    num_blocks = 200_000
    block_tokens = 16

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.mask_wait_seconds: list[float] = []
        self.num_late = 0
        self._random = random.Random(1)

    def run(self, round_: Round) -> RoundOutcome:
        started_at = time.monotonic()
        begin_masks(item.draft_check for item in round_.items)
        masked = [
            masked_check(item.draft_check, started_at + MOST_WAIT_SECONDS)
            for item in round_.items
            if item.draft_check is not None
        ]
        self.mask_wait_seconds.append(time.monotonic() - started_at)
        answers = iter(masked)
        items = tuple(self._drawn(item, answers) for item in round_.items)
        time.sleep(max(self.seconds - (time.monotonic() - started_at), 0.0))  # a GPU draws itself
        return RoundOutcome(items, time.monotonic() - started_at, 0.0)

    def _drawn(self, item: RoundItem, answers: object) -> ItemOutcome | None:
        if item.draft_check is None:
            return None
        masked = next(answers)  # type: ignore[call-overload]
        if isinstance(masked, ItemOutcome):
            self.num_late += masked.is_late
            return masked
        return self._followed(masked)

    def _followed(self, masked: MaskedCheck) -> ItemOutcome:
        """All drafts that may come are accepted, then any token that may."""
        num_accepted = 0
        for number, token_id in enumerate(masked.check.draft_token_ids):
            if masked.masks is not None:
                word, bit = divmod(token_id, 32)
                if not masked.masks[number, word] >> bit & 1:
                    break
            num_accepted += 1
        return ItemOutcome(num_accepted, self._token(masked, num_accepted))

    def _token(self, masked: MaskedCheck, row: int) -> int:
        if masked.masks is None:
            return self._random.randrange(1000, 100_000)
        words = masked.masks[row]
        word = int(self._random.choice(np.flatnonzero(words).tolist()))
        bits = [bit for bit in range(32) if words[word] >> bit & 1]
        return 32 * word + self._random.choice(bits)


@click.command()
@click.option("--streams", default=16, show_default=True)
@click.option("--rounds", default=300, show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option("--round-milliseconds", default=(10.0, 20.0), multiple=True, show_default=True)
def main(streams: int, rounds: int, repeats: int, round_milliseconds: Sequence[float]) -> None:
    """Print both tables."""
    tokenizer = HuggingFaceTokenizer(llama_3_tokenizer(), VOCAB_SIZE)
    click.echo("| forward ms | streams | ms per round, median (spread) | beside free | late |")
    click.echo("|---|---|---|---|---|")
    for milliseconds in round_milliseconds:
        run = partial(measured, tokenizer, milliseconds / 1e3, streams, rounds)
        arms: dict[str, list[float]] = {name: [] for name in ("free", *GRAMMARS)}
        late = dict.fromkeys(arms, 0)
        for _ in range(repeats):
            for name in arms:
                seconds, num_late = asyncio.run(run(GRAMMARS.get(name)))
                arms[name].append(1e3 * seconds)
                late[name] += num_late
        free = statistics.median(arms["free"])
        for name, each in arms.items():
            middle = statistics.median(each)
            click.echo(
                f"| {milliseconds:g} | {streams} × {name} | {middle:.2f} ({min(each):.2f}–"
                f"{max(each):.2f}) | {100 * (middle / free - 1):+.1f} % | {late[name]} |"
            )
    click.echo()
    click.echo("| 16 free streams beside | ms per round: median | p99 | longest | opened |")
    click.echo("|---|---|---|---|---|")
    for name, hostile in (("nothing", {}), *((name, {name: g}) for name, g in HOSTILE.items())):
        row = asyncio.run(beside(tokenizer, 0.01, rounds, tuple(hostile.values())))
        click.echo(f"| {name} | {row} |")
    click.echo()
    click.echo("| grammar | mask µs: median | p99 | longest | tokens |")
    click.echo("|---|---|---|---|---|")
    for name, grammar in GRAMMARS.items():
        click.echo(f"| {name} | {mask_row(tokenizer, grammar)} |")


async def measured(
    tokenizer: HuggingFaceTokenizer,
    seconds: float,
    num_streams: int,
    num_rounds: int,
    grammar: Grammar | None,
) -> tuple[float, int]:
    """Seconds of a round, the median of many; and how many checks were late."""
    target = TimedTarget(seconds)
    service = make_service(target, tokenizer, round_settings())
    service.grammars.prepare()
    took: list[float] = []
    enough = asyncio.Event()

    def report(report: RoundReport) -> None:
        if len(report.round_.items) == num_streams:
            took.append(report.total_seconds)
        if len(took) >= num_rounds:
            enough.set()

    service._engine._report = report
    running = asyncio.create_task(service.run())
    device = service.device("board")
    for number in range(num_streams):
        prompt = pack_token_ids(tokenizer.encode_text(f"stream {number}"))
        message = Open(
            number, number, prompt=prompt, max_tokens=50_000, seed=number, grammar=grammar
        )
        await service.open_stream(device, Mailbox(), message)
    await enough.wait()
    service.stop()
    await running
    return statistics.median(took[num_rounds // 4 :]), target.num_late


async def beside(
    tokenizer: HuggingFaceTokenizer,
    seconds: float,
    num_rounds: int,
    hostile: Sequence[Grammar],
) -> str:
    """What rounds of 16 free streams take, while a few others are held to a hostile grammar."""
    target = TimedTarget(seconds)
    service = make_service(target, tokenizer, round_settings())
    service.grammars.prepare()
    took: list[float] = []
    enough = asyncio.Event()

    def report(report: RoundReport) -> None:
        if len(report.round_.items) >= 16:
            took.append(1e3 * report.total_seconds)
        if len(took) >= num_rounds:
            enough.set()

    service._engine._report = report
    running = asyncio.create_task(service.run())
    numbers = itertools.count()

    async def open_one(device: str, grammar: Grammar | None) -> Mailbox:
        number, mailbox = next(numbers), Mailbox()
        prompt = pack_token_ids(tokenizer.encode_text(f"stream {number}"))
        message = Open(number, number, prompt=prompt, max_tokens=5000, grammar=grammar)
        await service.open_stream(service.device(device), mailbox, message)
        return mailbox

    async def keep_open(number: int, grammar: Grammar) -> None:
        while not enough.is_set():
            mailbox = await open_one(f"hostile-{number}", grammar)
            while not mailbox.ended and not enough.is_set():  # noqa: ASYNC110 (it knows no event)
                await asyncio.sleep(0.005)

    for _ in range(16):
        await open_one("board", None)
    async with asyncio.TaskGroup() as group:
        for number in range(NUM_HOSTILE):
            for grammar in hostile:
                group.create_task(keep_open(number, grammar))
    await enough.wait()
    num_opened = next(numbers) - 16
    service.stop()
    await running
    p99 = statistics.quantiles(took, n=100)[98]
    return f"{statistics.median(took):.2f} | {p99:.2f} | {max(took):.1f} | {num_opened}"


def mask_row(tokenizer: HuggingFaceTokenizer, grammar: Grammar, num_tokens: int = 2000) -> str:
    """What single masks take, one after the other, over a text of tokens at random."""
    grammars = Grammars(tokenizer, VOCAB_SIZE)
    held = grammars.begin(grammar, lambda: None)
    state, draws, took = held._state, random.Random(2), []
    for _ in range(num_tokens):
        began_at = time.perf_counter()
        (row,) = state.masks(())
        took.append(1e6 * (time.perf_counter() - began_at))
        allowed = np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little"))
        if not state.consume((int(draws.choice(allowed.tolist())),)):
            break
    grammars.close()
    p99 = statistics.quantiles(took, n=100)[98]
    return f"{statistics.median(took):.0f} | {p99:.0f} | {max(took):.0f} | {len(took)}"


if __name__ == "__main__":
    main()
