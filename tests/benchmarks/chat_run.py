"""One run of a benchmark: all boards of a fleet chat at once, and what that came to."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import NamedTuple

from tests.benchmarks.clients import ask
from tests.benchmarks.fleet import Fleet
from tests.support.chats.prompt_set import prompts

MEASURED = "goodspeed_drafts_over_none_ratio"
LOST = "goodspeed_payoff_lost_seconds_total"
_OUTPUT = "goodspeed_goodput_tokens_total"
_TESTED = "goodspeed_spec_decode_num_draft_tokens_total"
_WIRE = "goodspeed_wire_bytes_total"


class Asking(NamedTuple):
    """What each board asks in a run."""

    num_prompts: int
    num_tokens: int  # of an answer, at most
    temperature: float
    mode: str  # the acceptance mode


class ChatRun(NamedTuple):
    """What one run came to, while all boards chatted."""

    tokens_per_second: float  # of all together
    num_tested: int  # draft tokens
    wire_bytes: float  # of drafts, verdicts and all else, for each output token
    measured: float  # what the verifier has measured: with drafts over without; 0: nothing


def chat_run(running: Fleet, asking: Asking, *, drafts: bool = True) -> ChatRun:
    """Let each board ask its own questions; tokens count until the first has all its answers."""
    extension: dict[str, object] = {"acceptance_mode": asking.mode}
    if not drafts:
        extension["draft_length"] = 0
    sampling = {"temperature": asking.temperature, "top_p": 0.95, "seed": 7}

    def chat(number: int, port: int) -> None:
        own = prompts()[number :: len(running.agent_ports)][: asking.num_prompts]
        for prompt in own:
            ask(port, prompt.text, max_tokens=asking.num_tokens, **sampling, goodspeed=extension)

    before, started_at = scrape(running), time.monotonic()
    with ThreadPoolExecutor(len(running.agent_ports)) as threads:
        chats = [threads.submit(chat, i, port) for i, port in enumerate(running.agent_ports)]
        wait(chats, return_when=FIRST_COMPLETED)
        seconds = time.monotonic() - started_at
        after = scrape(running)
        for one in chats:
            one.result()
    num_tokens = after[_OUTPUT] - before[_OUTPUT]
    return ChatRun(
        num_tokens / seconds,
        int(after[_TESTED] - before[_TESTED]),
        (after[_WIRE] - before[_WIRE]) / num_tokens,
        after[MEASURED],
    )


def scrape(running: Fleet) -> Mapping[str, float]:
    """Of each of the verifier's metrics the sum over devices."""
    sums: defaultdict[str, float] = defaultdict(float)
    for name, value in running.verifier.metrics().items():
        sums[name.partition("{")[0]] += value
    return sums
