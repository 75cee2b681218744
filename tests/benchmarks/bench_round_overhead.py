"""What a round costs outside the model, with 16 streams drafting and chatting at once.

Planner, codec, sampling and event loop against the wall time of the rounds, by the verifier's own
/metrics; the verifier has one core and the agent the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from prometheus_client.parser import text_string_to_metric_families

from tests.benchmarks.clients import ask
from tests.benchmarks.fleet import fleet
from tests.support.chats.prompt_set import DRAFTS, prompts

NUM_STREAMS = 16
NUM_TOKENS = 64
VERIFIER = {
    "rounds.budget_tokens": 64,
    "target.dtype": "float32",
    "target.threads": 1,
    "limits.max_streams_per_device": NUM_STREAMS,
    "target.kv_cache_tokens": 32768,
}
AGENT = {
    "draft.threads": 1,
    "draft.batch_threads": 1,
    "draft.max_streams": NUM_STREAMS,
    "draft.context_tokens": 1024,
}
ARMS: Mapping[str, Mapping[str, object]] = {
    "greedy": {"temperature": 0},
    "coupled 0.8, top-p 0.95": {"temperature": 0.8, "top_p": 0.95, "seed": 1},
    "rejection 0.8, top-p 0.95": {
        "temperature": 0.8,
        "top_p": 0.95,
        "goodspeed": {"acceptance_mode": "rejection"},
    },
    "coupled 1.0": {"temperature": 1, "seed": 1},
}


def main() -> None:
    """Print the share of each phase in the rounds of every mode."""
    with fleet(
        DRAFTS[:1],
        verifier_settings=VERIFIER,
        agent_settings=AGENT,
        verifier_cores={0},
        agent_cores={1},
    ) as running:
        (port,) = running.agent_ports
        print("| mode | rounds | tokens/round | ms/round | plan | sample | settle | outside |")
        print("|---|---|---|---|---|---|---|---|")
        for name, fields in ARMS.items():
            before = _totals(running.verifier.metrics_page())
            with ThreadPoolExecutor(NUM_STREAMS) as clients:
                for prompt in prompts()[:NUM_STREAMS]:
                    clients.submit(ask, port, prompt.text, max_tokens=NUM_TOKENS, **fields)
            after = _totals(running.verifier.metrics_page())
            print(f"| {name} | {_row({key: after[key] - before[key] for key in after})} |")


def _row(totals: Mapping[str, float]) -> str:
    rounds, whole = totals["count"], totals["total"]
    shares = [totals[phase] / whole for phase in ("plan", "sample", "settle")]
    outside = 1 - totals["forward"] / whole
    return (
        f"{rounds:.0f} | {totals['tokens'] / rounds:.1f} | {1000 * whole / rounds:.1f} | "
        + " | ".join(f"{share:.1%}" for share in (*shares, outside))
    )


def _totals(page: str) -> Counter[str]:
    totals: Counter[str] = Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == "goodspeed_round_seconds_sum":
                totals[sample.labels["phase"]] = sample.value
            if sample.name == "goodspeed_batch_tokens_sum":
                totals["tokens"] = sample.value
            if sample.name == "goodspeed_batch_tokens_count":
                totals["count"] = sample.value
    return totals


if __name__ == "__main__":
    main()
