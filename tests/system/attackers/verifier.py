"""A verifier to be attacked, in a process of its own.

`python -m tests.system.attackers.verifier LIMIT`: all settings are those of the program, but for
`rounds.device_prefill_slowdown_limit`. The target is scripted: a round takes 20 ms, a token 0.2 ms
more, a row of logits that is sampled flat another 1.5 ms, as on a CPU. Prints its port and tokens.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec
import uvloop

from tests.support.ends.loopback import Verifier, make_service, running_verifier
from tests.support.ends.scripted import TARGET, VOCAB_SIZE, scripted_service
from tests.system.attackers.parent import end_with_parent
from verifier.config import LimitsSection, RoundsSection, TargetSection
from verifier.configured_rounds import round_settings
from verifier.cost_curve.curve import CostCurve
from verifier.engine.service import VerifierService
from verifier.policies import policy_named
from verifier.startup import device_limits
from verifier.target.round import Round, RoundOutcome
from verifier.target.scripted_target import ScriptedTarget
from verifier.target.scripted_tokenizer import ScriptedTokenizer

DEVICES = ("good", "bad-0", "bad-1")
ROUND_SECONDS, TOKEN_SECONDS, FLAT_ROW_SECONDS = 0.02, 2e-4, 1.5e-3
FLAT_TEMPERATURE = 50.0
CACHE_TOKENS = 16_384  # the default on a CPU


class Access(msgspec.Struct, frozen=True):
    """How to reach it."""

    port: int
    tokens: dict[str, str]

    def verifier(self) -> Verifier:
        """For clients that ask what a verifier would welcome; it is not in their process."""
        return Verifier(scripted_service(), None, self.port, self.tokens)  # type: ignore[arg-type]


class PricedTarget(ScriptedTarget):
    """A scripted target whose rows of high temperature take long."""

    def run(self, round_: Round) -> RoundOutcome:
        seconds = ROUND_SECONDS + TOKEN_SECONDS * round_.num_tokens
        row_seconds: list[float | None] = []
        for item in round_.items:
            check = item.draft_check
            is_flat = check is not None and check.sampling.temperature >= FLAT_TEMPERATURE
            row_seconds.append(None if check is None else FLAT_ROW_SECONDS * is_flat)
            if check is not None and is_flat:
                seconds += FLAT_ROW_SECONDS * check.num_logit_rows
        self._delay_seconds = lambda num_tokens: seconds
        outcome = super().run(round_)
        return msgspec.structs.replace(outcome, row_seconds=tuple(row_seconds))


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
    longest = ROUND_SECONDS + rounds.max_round_tokens * TOKEN_SECONDS
    curve = CostCurve.from_samples([(0, 64, ROUND_SECONDS), (rounds.max_round_tokens, 64, longest)])
    return make_service(
        target,
        ScriptedTokenizer(VOCAB_SIZE),
        round_settings(rounds),
        policy_named(rounds.policy),
        curve,
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
        await asyncio.Event().wait()


if __name__ == "__main__":
    end_with_parent()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(float(sys.argv[1])))
