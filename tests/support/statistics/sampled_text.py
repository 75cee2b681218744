"""Many sampled tokens from a verifier and four unlike boards over real websockets, counted.

`python -m tests.support.statistics.sampled_text MODE FAULT NUM_TOKENS` prints one line of JSON, so
that a test may run several at the same time: one process keeps one core busy.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import cast
from unittest.mock import patch

import numpy as np
import uvloop
from numpy.typing import NDArray

from edge_agent.draft_model.scripted_drafter import scripted_drafter
from edge_agent.drafting import draw
from edge_agent.drafting.drafter_choice import DrafterChoice
from edge_agent.drafting.draw import draw_token
from edge_agent.drafting.draw_spec import DrawSpec
from edge_agent.drafting.settings import DraftSettings
from edge_agent.generation.agent import Agent
from edge_agent.generation.generation import GenerationRequest
from edge_agent.link import backoff
from shared.protocol.draft_path import DraftToken
from shared.protocol.messages import AcceptanceMode
from shared.speculation import verification
from shared.speculation.probabilities import dense_probabilities
from shared.speculation.sampling import SamplingParameters
from shared.speculation.scripted_model import ScriptedModel, scripted_token_bytes
from shared.speculation.verification import Verification
from tests.support.ends.loopback import generate, round_settings, running_agent, running_verifier
from tests.support.ends.scripted import EndlessModel, scripted_service
from tests.support.ends.two_ends import EagerChoice
from tests.support.ends.waiting import eventually
from tests.support.network.chaos_lane import Weather
from tests.support.network.chaos_proxy import ChaosProxy, local
from tests.support.statistics.next_token_statistics import TokenCounts
from tests.support.statistics.noise_table import NoiseTable
from tests.support.statistics.remembered_rows import remembered
from verifier.policies import BudgetLimits, LengthPlan, LiveDrafts, Outlook, RatePolicy
from verifier.policies.random_split import RandomPolicy
from verifier.target import scripted_target
from verifier.target.scripted_tokenizer import ScriptedTokenizer

VOCAB_SIZE = 16
MODEL_SEED = 11
SHARPNESS = 1.5
TOKENS_PER_TEXT = 300
STREAMS_PER_BOARD = 32
MAX_DRAFT_LENGTH = 6
# Draft lengths are drawn anew in every round: 0, too, which drops what is in flight, and less
# than a chunk that is here already, which is then cut.
BUDGET_TOKENS = 256
ROUND_SECONDS = 0.02  # boards need about half of it for their drafts
SLOW_ROUND_SECONDS = 0.04  # for what is seldom right, and counts only if it comes in time
# Tokens of a round for each of its streams, where most drafts are there in time; and how many times
# as long rounds may take until they are, on a busy machine.
TOKENS_IN_TIME = 1.25
MOST_TIMES_AS_LONG = 10.0
SAMPLINGS = {
    "temperature": SamplingParameters(temperature=1.0),
    "top_p": SamplingParameters(temperature=0.9, top_p=0.85),
    "top_k": SamplingParameters(temperature=1.2, top_k=5),
}
# Half of the texts at temperature 1, a quarter each with top-p and with top-k.
SHARES = ("temperature", "top_p", "temperature", "top_k")
FAULTS = (
    "none",
    "n-grams",
    "links are cut",
    "vocabularies overlap",
    "the surest are tested",
    "unlikely drafts are discarded",
    "drafts are not tested",
)
# So dear that a board's doubtful tokens are not worth their test.
SECONDS_A_TOKEN = 1e-4
CUT_EVERY_SECONDS = 0.15  # one of the links
# Of the boards' drafts, where they are not the target's: shorter and longer ones.
OVERLAPPING_SIZES = (11, 21, 13, 40)


@dataclass(frozen=True)
class Board:
    """What is special about one board and its link."""

    disagreement: float
    link: Weather | None = None
    seconds_per_token: float = 0.0
    confidence_stop: float = 0.0
    row_entries: int = 32


BOARDS = (
    Board(disagreement=0.1),
    Board(disagreement=0.2, link=Weather(0.001, 0.003), row_entries=5),
    Board(disagreement=0.2, link=Weather(jitter_seconds=0.005), confidence_stop=0.25),
    Board(disagreement=0.5, link=Weather(jitter_seconds=0.002), seconds_per_token=0.0003),  # late
)


class LastTokenModel(EndlessModel):
    """The target; it looks at one token, so that counts can say whether it was followed."""

    def __init__(self) -> None:
        super().__init__(_model(disagreement=0.0))

    def probs(self, sampling: SamplingParameters) -> NDArray[np.float64]:
        """Probabilities [context, next]."""
        contexts = range(self.vocab_size)
        return np.stack([dense_probabilities(self.logits([i]), sampling) for i in contexts])


class ChoosyPolicy(RatePolicy):
    """Counts what it leaves and where it lets boards stop."""

    def __init__(self) -> None:
        super().__init__()
        self.num_left = self.num_asked_to_stop = 0

    def plan(self, outlook: Outlook, limits: BudgetLimits) -> LengthPlan:
        plan = super().plan(outlook, limits)
        asked = plan.least_survivals is not None and (plan.least_survivals > 0.1).any()
        self.num_asked_to_stop += int(asked)
        return plan

    def choose(self, live: LiveDrafts, look: Callable[[], Outlook]) -> Sequence[int]:
        chosen = super().choose(live, look)
        self.num_left += sum(live.num_testable) - sum(chosen)
        return chosen


class RoundPace:
    """Rounds that last until boards have drafted, however busy the machine is."""

    def __init__(self, round_seconds: float) -> None:
        self._round_seconds = round_seconds
        self._times_as_long = 1.0

    def seconds(self, num_tokens: int, num_streams: int) -> float:
        """Of a round with so many tokens: the fewer drafts came in time, the longer the next."""
        is_in_time = num_tokens >= TOKENS_IN_TIME * num_streams
        changed = self._times_as_long * (0.95 if is_in_time else 1.2)
        self._times_as_long = min(max(changed, 1.0), MOST_TIMES_AS_LONG)
        return self._round_seconds * self._times_as_long


@dataclass
class Tally:
    """What came out of one run."""

    counts: dict[str, TokenCounts] = field(
        default_factory=lambda: {name: TokenCounts(VOCAB_SIZE) for name in SAMPLINGS}
    )
    num_drafted: int = 0
    num_accepted: int = 0
    num_resumed: int = 0
    num_left: int = 0  # live tokens that a round did not test, though it had room
    num_asked_to_stop: int = 0  # plans that say where boards should stop

    def report(self) -> dict[str, object]:
        """p-values by sampling, and what shows that drafts had a part in it."""
        target = LastTokenModel()
        return {
            "num_tokens": sum(counts.num_tokens for counts in self.counts.values()),
            "num_drafted": self.num_drafted,
            "num_accepted": self.num_accepted,
            "num_resumed": self.num_resumed,
            "num_left": self.num_left,
            "num_asked_to_stop": self.num_asked_to_stop,
            "p_values": {
                name: counts.p_values(target.probs(SAMPLINGS[name]))
                for name, counts in self.counts.items()
            },
        }


async def sample(
    mode: AcceptanceMode,
    num_tokens: int,
    *,
    is_barrier: bool = False,
    is_cut: bool = False,
    is_overlapping: bool = False,
    is_choosing: bool = False,
    ngram_tokens: int = 0,
) -> Tally:
    """Let all boards generate until there are `num_tokens` tokens."""
    pace = RoundPace(SLOW_ROUND_SECONDS if ngram_tokens or is_overlapping else ROUND_SECONDS)

    def round_seconds(num_tokens: int) -> float:
        num_streams = 0 if ngram_tokens else len(service.planner.streams)  # those are seldom right
        return pace.seconds(num_tokens, num_streams) + num_tokens * token_seconds

    choosy, token_seconds = ChoosyPolicy(), SECONDS_A_TOKEN if is_choosing else 0.0
    service = scripted_service(
        LastTokenModel(),
        settings=round_settings(
            max_draft_length=MAX_DRAFT_LENGTH,
            budget_tokens=None if is_choosing else BUDGET_TOKENS,
            is_barrier=is_barrier,
        ),
        policy=choosy if is_choosing else RandomPolicy(np.random.default_rng(MODEL_SEED)),
        delay_seconds=round_seconds,
    )
    names = [f"board-{i}" for i in range(len(BOARDS))]
    tally = Tally()
    texts = iter(range(-(-num_tokens // TOKENS_PER_TEXT)))
    async with AsyncExitStack() as stack:
        verifier = await stack.enter_async_context(running_verifier(service, names))
        agents, proxies = [], []
        for i, (name, board) in enumerate(zip(names, BOARDS, strict=True)):
            url = verifier.url
            if board.link is not None:
                proxies.append(ChaosProxy(local(verifier.port), board.link, seed=i))
                url = (await stack.enter_async_context(proxies[-1])).url
            drafter = scripted_drafter(
                _model(board.disagreement, OVERLAPPING_SIZES[i] if is_overlapping else VOCAB_SIZE),
                num_slots=STREAMS_PER_BOARD,
                seconds_per_token=board.seconds_per_token,
            )
            settings = DraftSettings(
                board.row_entries, board.confidence_stop, 64, 4096, ngram_tokens
            )
            running = running_agent(verifier, drafter, name, settings, url)
            agents.append(await stack.enter_async_context(running))
        cutting = asyncio.create_task(_cut(proxies if is_cut else []))
        await asyncio.gather(
            *(
                _work(agent, mode, texts, tally)
                for _ in range(STREAMS_PER_BOARD)
                for agent in agents
            )
        )
        cutting.cancel()
        tally.num_left, tally.num_asked_to_stop = choosy.num_left, choosy.num_asked_to_stop
        tally.num_resumed = int(
            service.metrics.registry.get_sample_value("goodspeed_streams_resumed_total") or 0
        )
    return tally


async def _cut(proxies: Sequence[ChaosProxy]) -> None:
    """Reset one link after the other, at times that no text has a part in."""
    for proxy in itertools.cycle(proxies):
        await asyncio.sleep(CUT_EVERY_SECONDS)
        proxy.reset()


async def _work(agent: Agent, mode: AcceptanceMode, texts: Iterator[int], tally: Tally) -> None:
    tokenizer = ScriptedTokenizer(VOCAB_SIZE)
    for i in texts:
        await eventually(lambda: agent.target_model is not None)  # it may just have been cut off
        name = SHARES[(i + i // len(SHARES)) % len(SHARES)]  # every board gets every one
        prompt = f"text {i}"
        request = GenerationRequest(
            text=prompt,
            sampling=SAMPLINGS[name],
            seed=i,
            max_tokens=TOKENS_PER_TEXT,
            acceptance_mode=mode,
        )
        text, finished = await generate(agent, request)
        tally.counts[name].add(tokenizer.encode_text(prompt)[-1], token_ids_of(text))
        tally.num_drafted += finished.timings.drafted_tokens
        tally.num_accepted += finished.timings.accepted_tokens


def token_ids_of(text: str, vocab_size: int = VOCAB_SIZE) -> Sequence[int]:
    """The ids behind a text: every word is one."""
    ids = {word.decode(): i for i, word in enumerate(scripted_token_bytes(vocab_size))}
    return [ids[f" {word}"] for word in text.split(" ")[1:]]


@contextmanager
def fault(name: str) -> Iterator[None]:
    """Break what keeps the text right, as the statistics must notice."""
    if name == "unlikely drafts are discarded":
        with patch.object(draw, "draw_token", _discarding_draw):
            yield
    elif name == "drafts are not tested":
        with (
            patch.object(scripted_target, "verify_rejection", _rejection_without_a_test),
            patch.object(scripted_target, "verify_coupled", _coupled_without_a_test),
        ):
            yield
    elif name == "n-grams":
        # Of so random a text a careful board would not believe them.
        with patch.object(DrafterChoice, "suggest", EagerChoice.suggest):
            yield
    else:
        assert name in FAULTS, name
        with patch.object(backoff, "FIRST_DELAY_SECONDS", 0.02):
            yield


def _discarding_draw(spec: DrawSpec, logits: NDArray[np.float32]) -> DraftToken | None:
    """Stop *because of* the token that was drawn; nothing is tested in its place."""
    token = draw_token(spec, logits)
    if token is None or token.row is None or token.row.prob_of(token.token_id) > 0.1:
        return token
    return None


def _rejection_without_a_test(
    target_probs: NDArray[np.float64],
    draft_token_ids: Sequence[int],
    rows: Sequence[object],
    seed: int,
    position: int,
    *,
    draws_bonus: bool,
) -> Verification:
    """Accept whatever the target can produce."""
    num_accepted = _num_possible(target_probs, draft_token_ids)
    rest = target_probs[num_accepted:]
    alone = verification.verify_rejection(rest, (), (), seed, position + num_accepted)
    draws = draws_bonus or num_accepted < len(draft_token_ids)
    return Verification(num_accepted, alone.token_id if draws else None, ())


def _coupled_without_a_test(
    target_probs: NDArray[np.float64], draft_token_ids: Sequence[int], seed: int, position: int
) -> Verification:
    num_accepted = _num_possible(target_probs, draft_token_ids)
    rest = target_probs[num_accepted:]
    alone = verification.verify_coupled(rest, (), seed, position + num_accepted)
    return Verification(num_accepted, alone.token_id, ())


def _num_possible(target_probs: NDArray[np.float64], draft_token_ids: Sequence[int]) -> int:
    for i, token_id in enumerate(draft_token_ids):
        if target_probs[i, token_id] == 0:
            return i
    return len(draft_token_ids)


def _model(disagreement: float, vocab_size: int = VOCAB_SIZE) -> ScriptedModel:
    return ScriptedModel(
        vocab_size, MODEL_SEED, order=1, sharpness=SHARPNESS, disagreement=disagreement
    )


def main(mode: str, fault_name: str, num_tokens: int) -> None:
    """Run once and print the report."""
    noise = NoiseTable(VOCAB_SIZE)
    with (
        patch.object(verification, "gumbel", noise.gumbel),
        patch.object(verification, "uniform", noise.uniform),
        patch.object(draw, "probabilities", remembered(draw.probabilities)),
        patch.object(scripted_target, "dense_probabilities", remembered(dense_probabilities)),
        fault(fault_name),
    ):
        # On a busy machine the fault would go unnoticed where no draft comes in time.
        is_barrier = fault_name == "drafts are not tested"
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            sampling = sample(
                cast(AcceptanceMode, mode),
                num_tokens,
                is_barrier=is_barrier,
                is_cut=fault_name == "links are cut",
                is_overlapping=fault_name == "vocabularies overlap",
                is_choosing=fault_name == "the surest are tested",
                ngram_tokens=3 if fault_name == "n-grams" else 0,
            )
            tally = runner.run(sampling)
    sys.stdout.write(json.dumps(tally.report()) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
