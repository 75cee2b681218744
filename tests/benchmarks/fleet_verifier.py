"""`goodspeed-verifier run` with a scripted target whose rounds take a given time, for load tests.

Everything but the target is the real program; with a profile path as second argument the event loop
runs under cProfile until the program ends.

    python -m tests.benchmarks.fleet_verifier 0.020 "" run --set server.tokens_file=tokens
"""

from __future__ import annotations

import cProfile
import sys
import time

import numpy as np

import verifier.startup
from shared.speculation.scripted_model import ScriptedModel
from tests.support.ends.scripted import MODEL_SEED, VOCAB_SIZE, EndlessModel
from verifier.cli import main as verifier_main
from verifier.config import VerifierConfig
from verifier.cost_curve.curve import CostCurve
from verifier.engine.service import VerifierService
from verifier.startup import make_service
from verifier.target.round import ItemOutcome, Round, RoundItem, RoundOutcome
from verifier.target.scripted_tokenizer import ScriptedTokenizer

# A token more in a round costs next to nothing, as on a GPU far from its limit.
SECONDS_PER_TOKEN = 1e-6
CACHE_TOKENS = 1 << 18


class GreedyTable:
    """A target for greedy streams that takes `round_seconds` and next to no work of the CPU.

    The next token of every two tokens of `ScriptedModel` is in a table. A round sleeps without
    Python's lock, like one on a GPU. It reports that time alone: waiting for the lock and reading
    the results out then count as overhead of the round.
    """

    def __init__(self, round_seconds: float, num_blocks: int, block_tokens: int = 16) -> None:
        self.model_name = "scripted"
        self.vocab_size = VOCAB_SIZE
        self.num_blocks = num_blocks
        self.block_tokens = block_tokens
        self.context_tokens = 4096
        self._round_seconds = round_seconds
        model = EndlessModel(ScriptedModel(VOCAB_SIZE, MODEL_SEED))
        tokens = range(VOCAB_SIZE)
        self._next = [[int(np.argmax(model.logits((a, b)))) for b in tokens] for a in tokens]
        self._cache = [0] * (num_blocks * block_tokens)

    def run(self, round_: Round) -> RoundOutcome:
        """Run one round; see `verifier.target.target.TargetModel.run`."""
        seconds = self._round_seconds + SECONDS_PER_TOKEN * round_.num_tokens
        time.sleep(seconds)
        items = tuple([self._run(item) for item in round_.items])
        return RoundOutcome(items, forward_seconds=seconds, sampling_seconds=0.0)

    def _run(self, item: RoundItem) -> ItemOutcome | None:
        size, table, cache = self.block_tokens, item.block_table, self._cache
        first = item.num_cached_tokens
        for position, token_id in enumerate(item.token_ids, start=first):
            cache[table[position // size] * size + position % size] = token_id
        if item.draft_check is None:
            return None
        drafts = item.draft_check.draft_token_ids
        end = first + len(item.token_ids) - len(drafts)
        before, last = (cache[table[p // size] * size + p % size] for p in (end - 2, end - 1))
        num_accepted = 0
        for draft in drafts:
            if self._next[before][last] != draft:
                break
            before, last = last, draft
            num_accepted += 1
        return ItemOutcome(num_accepted, self._next[before][last])


def main(round_seconds: str, profile: str, *arguments: str) -> None:
    """Run the verifier's command line."""

    def load(config: VerifierConfig, *_: object) -> VerifierService:
        seconds = float(round_seconds)
        num_blocks = -(-CACHE_TOKENS // config.target.block_tokens)
        longest = seconds + 8192 * SECONDS_PER_TOKEN
        curve = CostCurve.from_samples([(1, 64, seconds), (8192, 64, longest)])
        target = GreedyTable(seconds, num_blocks, config.target.block_tokens)
        return make_service(config, target, ScriptedTokenizer(VOCAB_SIZE), curve)

    verifier.startup.load_service = load
    verifier.startup.save_curve = lambda config, service: None
    if not profile:
        verifier_main(list(arguments))
        return
    profiler = cProfile.Profile()
    try:
        profiler.runcall(verifier_main, list(arguments), standalone_mode=False)
    finally:
        profiler.dump_stats(profile)


if __name__ == "__main__":
    main(*sys.argv[1:])
