"""What one stream costs Python in one round, from the bytes of its draft to those of its verdict.

The verifier's own codec, service, planner and metrics, one stream for each device, coupled and
greedy, drafts of four tokens of which the target takes most; without sockets, event loop and
target, so that the number is the work alone, with garbage collected as rarely as the engine lets it
be. Seconds are those of the processor for this thread.

    python -m tests.benchmarks.bench_stream_cost --streams 64 800 --rounds 200

With `--against DIR` another checkout takes turns with this one, in processes of their own, so that
both meet the same machine; this file plays both.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from shared.daemon.lifecycle import rare_collections
from shared.protocol.codec import decode_from_agent, encode
from shared.protocol.messages import Draft, RatedDraft, VerifierMessage
from shared.protocol.text import ByteAssembler
from shared.protocol.token_ids import pack_rated_ids, pack_token_ids
from shared.speculation.sampling import GREEDY
from shared.speculation.scripted_model import scripted_token_bytes
from verifier.configured_rounds import round_settings
from verifier.cost_curve.curve import CostCurve
from verifier.engine.metrics import Metrics
from verifier.engine.service import verdict_of
from verifier.policies import PolicyName, policy_named
from verifier.rounds.blocks import BlockPool
from verifier.rounds.planner import RoundPlanner, StreamResult
from verifier.rounds.settings import RoundsSection
from verifier.streams.draft_arrival import take_draft
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.stream import Stream
from verifier.streams.stream_request import StreamRequest
from verifier.target.round import ItemOutcome, Round, RoundOutcome

ROOT = Path(__file__).parents[2]
VOCAB_SIZE = 64
DRAFT_TOKENS = 4
PROMPT_TOKENS = 200
# Of a draft's tokens, so many survive: 2.6 on average.
ACCEPTED = (4, 4, 3, 2, 0)
ROUND_SECONDS = 0.010
PHASES = ("receive", "plan", "follow up", "settle", "deliver")
WARM_UP_ROUNDS = 20
TURNS = 5


class StreamCost:
    """Streams whose boards have drafted, and links carried, whenever a round is over."""

    def __init__(self, num_streams: int, num_rounds: int, policy: PolicyName) -> None:
        block_tokens = 16
        num_blocks = num_streams * (PROMPT_TOKENS + 6 * (num_rounds + WARM_UP_ROUNDS)) // 16 + 64
        curve = CostCurve.from_samples([(1, 64, ROUND_SECONDS), (16_384, 64, 2 * ROUND_SECONDS)])
        num_prompt_tokens = num_streams * PROMPT_TOKENS  # read in one round
        settings = round_settings(
            RoundsSection(
                max_round_tokens=num_prompt_tokens, prefill_chunk_tokens=num_prompt_tokens
            )
        )
        self.planner = RoundPlanner(
            settings, policy_named(policy), curve, BlockPool(num_blocks, block_tokens)
        )
        self.metrics = Metrics()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._chance = random.Random(7)
        self._now = 0.0
        token_bytes = scripted_token_bytes(VOCAB_SIZE)
        self.streams = [
            _stream(number, token_bytes, num_rounds) for number in range(1, num_streams + 1)
        ]
        for stream in self.streams:
            self.planner.add(stream)

    def play(self, num_rounds: int) -> dict[str, float]:
        """Microseconds of each phase for a stream in a round, and of all of them."""
        for _ in range(WARM_UP_ROUNDS):
            self._round()
        assert all(stream.output_ids for stream in self.streams), "a prompt was not read"
        self.seconds.clear()
        num_turns = sum(self._round() for _ in range(num_rounds))
        cost = {phase: 1e6 * self.seconds[phase] / num_turns for phase in PHASES}
        return cost | {"all": sum(cost.values())}

    def _round(self) -> int:
        messages = [self._draft(stream) for stream in self.streams]
        with self._timed("receive"):
            for stream, message in zip(self.streams, messages, strict=True):
                if message:
                    draft = decode_from_agent(message)
                    assert isinstance(draft, Draft)
                    take_draft(stream, draft, VOCAB_SIZE, self._now)
        with self._timed("plan"):
            round_ = self.planner.start_round(self._now)
        assert round_ is not None
        with self._timed("follow up"):
            self.planner.follow_up(self._now)
        self._now += ROUND_SECONDS
        outcome = self._outcome(round_)
        with self._timed("settle"):
            results = self.planner.finish_round(round_, outcome, ROUND_SECONDS, self._now)
        with self._timed("deliver"):
            self._deliver(results)
        return len(round_.items)

    def _deliver(self, results: Sequence[StreamResult]) -> None:
        for result in results:
            self.metrics.observe_result(result)
            message: VerifierMessage = verdict_of(result.stream.number, result)
            encode(message)

    def _draft(self, stream: Stream) -> bytes | None:
        """What the board sends for the next round: as far as its window goes, four at most."""
        stream.board_is_ready = True
        if stream.window == 0 or stream.path.live:
            return None
        path = stream.path
        num_tokens = min(DRAFT_TOKENS, stream.window)
        position = max(path.position, path.base)
        token_ids = [1 + (position + i) % 50 for i in range(num_tokens)]
        place = stream.number, path.base, position - path.base
        if not self.planner.policy.uses_confidence:
            return encode(Draft(*place, pack_token_ids(token_ids), 4))
        confidences = bytes([60 + 50 * (token_id % 4) for token_id in token_ids])
        return encode(RatedDraft(*place, pack_rated_ids(token_ids, confidences), 4))

    def _outcome(self, round_: Round) -> RoundOutcome:
        items: list[ItemOutcome | None] = []
        for item in round_.items:
            if item.draft_check is None:
                items.append(None)
                continue
            drafts = item.draft_check.draft_token_ids
            num_accepted = min(self._chance.choice(ACCEPTED), len(drafts))
            items.append(ItemOutcome(num_accepted, 60))  # which no board drafts
        return RoundOutcome(tuple(items), forward_seconds=ROUND_SECONDS, sampling_seconds=0.0)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        started_at = time.thread_time()
        yield
        self.seconds[phase] += time.thread_time() - started_at


def _stream(number: int, token_bytes: Sequence[bytes], num_rounds: int) -> Stream:
    estimates = DeviceEstimates()
    request = StreamRequest(
        prompt_ids=tuple((number + i) % 50 for i in range(PROMPT_TOKENS)),
        sampling=GREEDY,
        mode="coupled",
        seed=number,
        max_output_tokens=6 * (num_rounds + WARM_UP_ROUNDS),
        ends_at_context=False,
        end_ids=frozenset({63}),
        draft_length=None,
        draft_context_tokens=1 << 21,
    )
    return Stream(
        number=number,
        device=f"board-{number}",
        request=request,
        text=ByteAssembler(token_bytes, frozenset()),
        device_estimates=estimates,
        estimates=estimates.open_stream(),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print microseconds for a stream and round, median of some turns with their spread."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, nargs="+", default=[64, 800])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--policy", default="goodspeed")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    settings = parser.parse_args(arguments)
    if settings.once:
        (num_streams,) = settings.streams
        cost = StreamCost(num_streams, settings.rounds, settings.policy)
        with rare_collections():
            print(json.dumps(cost.play(settings.rounds)))
        return
    trees = {"here": ROOT} | ({"against": settings.against} if settings.against else {})
    print("| streams | tree | " + " | ".join((*PHASES, "all")) + " | least to most |")
    print("|---|---|" + "---|" * (len(PHASES) + 2))
    for num_streams in settings.streams:
        costs: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
        for _ in range(settings.turns):
            for name, tree in trees.items():
                costs[name].append(_once(tree, num_streams, settings))
        for name, turns in costs.items():
            medians = [statistics.median(t[phase] for t in turns) for phase in (*PHASES, "all")]
            alls = [turn["all"] for turn in turns]
            figures = " | ".join(f"{median:.1f}" for median in medians)
            print(f"| {num_streams} | {name} | {figures} | {min(alls):.1f} to {max(alls):.1f} |")


def _once(tree: Path, num_streams: int, settings: argparse.Namespace) -> dict[str, float]:
    """By this script, with that tree's code."""
    command = [sys.executable, __file__, "--once", "--policy", settings.policy]
    command += ["--streams", str(num_streams), "--rounds", str(settings.rounds)]
    paths = str(tree.resolve()), os.environ.get("PYTHONPATH", "")
    code = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    printed = subprocess.run(command, env=code, check=True, capture_output=True, text=True).stdout
    cost: dict[str, float] = json.loads(printed)
    return cost


if __name__ == "__main__":
    main()
