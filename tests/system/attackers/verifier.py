"""A verifier to be attacked, in a process of its own.

`python -m tests.system.attackers.verifier LIMIT`: all settings are those of the program, but for
`rounds.device_prefill_slowdown_limit`. The target is scripted: a round takes 20 ms, a token 0.2 ms
more, a row of logits that is sampled flat another 1.5 ms, as on a CPU. Prints its port and tokens,
and at the end of its input what the rounds of the device `good` took.
"""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec
import numpy as np
import uvloop

from shared.daemon.resources.interpreter_turns import short_turns
from tests.support.ends.loopback import Verifier, make_service, running_verifier
from tests.support.ends.scripted import TARGET, VOCAB_SIZE, scripted_service
from verifier.config import LimitsSection, TargetSection
from verifier.configured_rounds import round_settings
from verifier.cost_curve.curve import CostCurve
from verifier.engine.engine import RoundReport
from verifier.engine.service import VerifierService
from verifier.policies import policy_named
from verifier.rounds.planner import StreamResult
from verifier.rounds.settings import RoundsSection
from verifier.server.configured_limits import device_limits
from verifier.server.loop_shares import LoopShares
from verifier.target.round import DraftCheck, Round, RoundOutcome
from verifier.target.scripted_target import ScriptedTarget
from verifier.target.scripted_tokenizer import ScriptedTokenizer

DEVICES = ("good", "bad-0", "bad-1")
ROUND_SECONDS, TOKEN_SECONDS, FLAT_ROW_SECONDS = 0.02, 2e-4, 1.5e-3
FLAT_TEMPERATURE = 50.0
CACHE_TOKENS = 16_384  # the default on a CPU
LONGEST_ROUND_TOKENS = RoundsSection().max_round_tokens


class Access(msgspec.Struct, frozen=True):
    """How to reach it."""

    port: int
    tokens: dict[str, str]

    def verifier(self) -> Verifier:
        """For clients that ask what a verifier would welcome; it is not in their process."""
        return Verifier(scripted_service(), None, self.port, self.tokens)  # type: ignore[arg-type]


class RoundTimes(msgspec.Struct, frozen=True):
    """The slow ones of the rounds that one device had a part in: 99th percentiles, milliseconds."""

    num_tokens: float
    asked: float  # what the target should take for what was in the rounds
    target: float  # what it took
    plan: float  # the loop had the answer and chose what is in the next round
    settle: float
    others: float  # until the loop had the answer: callbacks that were in its way
    loop_parts: dict[str, float]  # of the event loop, by device


class PricedTarget(ScriptedTarget):
    """A scripted target whose rows of high temperature take long."""

    def run(self, round_: Round) -> RoundOutcome:
        started_at = time.monotonic()
        outcome = super().run(round_)
        # What it computes itself is the work of a GPU, and part of the time that a round takes.
        time.sleep(max(started_at + seconds_of(round_) - time.monotonic(), 0.0))
        forward_seconds = time.monotonic() - started_at - outcome.sampling_seconds
        checks = [item.draft_check for item in round_.items]
        row_seconds = [None if check is None else row_seconds_of(check) for check in checks]
        return msgspec.structs.replace(
            outcome, forward_seconds=forward_seconds, row_seconds=tuple(row_seconds)
        )


def seconds_of(round_: Round) -> float:
    """What a round takes, for what is in it."""
    checks = [item.draft_check for item in round_.items if item.draft_check is not None]
    row_seconds = sum(check.num_logit_rows * row_seconds_of(check) for check in checks)
    return ROUND_SECONDS + TOKEN_SECONDS * round_.num_tokens + row_seconds


def row_seconds_of(check: DraftCheck) -> float:
    """What sampling takes for a row of a stream."""
    return FLAT_ROW_SECONDS * (check.sampling.temperature >= FLAT_TEMPERATURE)


class RoundNotes:
    """What rounds took, noted as they end; implements `RoundWatcher`."""

    def __init__(self, service: VerifierService, device: str) -> None:
        self._service, self._device = service, device
        self._rows: list[tuple[float, ...]] = []
        self._started_at = time.monotonic()
        service.metrics.watchers.append(self)

    def observe_result(self, result: StreamResult) -> None:
        """See `RoundWatcher`: only whole rounds are noted."""

    def observe_round(self, report: RoundReport) -> None:
        """See `RoundWatcher`."""
        streams = self._service.planner.streams
        parts = [(streams.get(item.stream), item) for item in report.round_.items]
        own = [item for stream, item in parts if stream and stream.device == self._device]
        if own and all(len(item.token_ids) == 1 for item in own):  # its own prompts aside
            target = report.forward_seconds + report.sampling_seconds
            known = target + report.plan_seconds + report.settle_seconds
            seconds = (
                seconds_of(report.round_),
                target,
                report.plan_seconds,
                report.settle_seconds,
            )
            row = (*seconds, report.total_seconds - known)
            self._rows.append((report.round_.num_tokens, *(1e3 * one for one in row)))

    def times(self, shares: LoopShares) -> RoundTimes:
        """Of all until now."""
        slow = np.percentile(np.array(self._rows or [(0.0,) * 6]), 99, axis=0).tolist()
        elapsed = time.monotonic() - self._started_at
        parts = {device: spent / elapsed for device, spent in shares.spent_seconds.items()}
        return RoundTimes(*slow, parts)


def cost_curve() -> CostCurve:
    """What a verifier would have measured."""
    longest = ROUND_SECONDS + LONGEST_ROUND_TOKENS * TOKEN_SECONDS
    return CostCurve.from_samples([(0, 64, ROUND_SECONDS), (LONGEST_ROUND_TOKENS, 64, longest)])


def attacked_service(device_prefill_slowdown_limit: float) -> VerifierService:
    """The verifier of this process, without a port."""
    context_tokens, block_tokens = TargetSection().context_tokens, TargetSection().block_tokens
    rounds = RoundsSection(device_prefill_slowdown_limit=device_prefill_slowdown_limit)
    target = PricedTarget(
        TARGET,
        num_blocks=CACHE_TOKENS // block_tokens,
        block_tokens=block_tokens,
        context_tokens=context_tokens,
    )
    return make_service(
        target,
        ScriptedTokenizer(VOCAB_SIZE),
        round_settings(rounds),
        policy_named(rounds.policy),
        cost_curve(),
        max_streams_per_device=LimitsSection().max_streams_per_device,
    )


async def serve(device_prefill_slowdown_limit: float) -> None:
    """Until the process is ended."""
    service = attacked_service(device_prefill_slowdown_limit)
    limits = device_limits(LimitsSection(), TargetSection().context_tokens)
    async with running_verifier(service, DEVICES, device_limits=limits) as verifier:
        access = Access(verifier.port, verifier.tokens)
        sys.stdout.buffer.write(msgspec.json.encode(access) + b"\n")
        sys.stdout.flush()
        notes = RoundNotes(service, DEVICES[0])
        await asyncio.to_thread(sys.stdin.buffer.read)
        times = notes.times(verifier.server._loop_shares)
        sys.stdout.buffer.write(msgspec.json.encode(times) + b"\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with short_turns(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(float(sys.argv[1])))
