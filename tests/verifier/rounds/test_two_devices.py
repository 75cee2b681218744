"""Whatever two devices have in rounds, those of a third are hardly longer, in virtual time.

With the settings of the program, and rounds that take what those of `tests.system.attackers` do.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable
from random import Random

import numpy as np
import pytest

from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.ends.planning import chunk, make_stream, send
from tests.system.attackers.verifier import (
    CACHE_TOKENS,
    TOKEN_SECONDS,
    cost_curve,
    row_seconds_of,
    seconds_of,
)
from verifier.config import TargetSection
from verifier.configured_rounds import round_settings
from verifier.policies import policy_named
from verifier.rounds.blocks import BlockPool
from verifier.rounds.planner import RoundPlanner
from verifier.rounds.settings import RoundsSection
from verifier.streams.estimates import DeviceEstimates
from verifier.streams.stream import Stream
from verifier.target.round import ItemOutcome, Round, RoundOutcome

NUM_STREAMS, CONTEXT_TOKENS = 8, TargetSection().context_tokens
NUM_ROUNDS, WARM_UP_ROUNDS = 300, 60
MOST_SLOWER = 1.19
BURST_ROUNDS = 20
ACCEPTED_ID = 20
FLAT = SamplingParameters(100.0, 0, 0.99999)

Ask = Callable[[int, DeviceEstimates, str], Stream]
numbers = itertools.count(1)


def stream(
    device: str,
    estimates: DeviceEstimates,
    num_prompt: int,
    max_tokens: int,
    sampling: SamplingParameters = GREEDY,
) -> Stream:
    random = Random(next(numbers))
    return make_stream(
        next(numbers),
        device=device,
        device_estimates=estimates,
        prompt_ids=tuple(random.choices(range(1, 60), k=num_prompt)),
        max_output_tokens=max_tokens,
        sampling=sampling,
        draft_length=0,
    )


def streams(place: int, estimates: DeviceEstimates, device: str) -> Stream:
    return stream(device, estimates, 4, CONTEXT_TOKENS - 10)


def flat_rows(place: int, estimates: DeviceEstimates, device: str) -> Stream:
    return stream(device, estimates, 4, CONTEXT_TOKENS - 10, FLAT)


def some_flat_rows(place: int, estimates: DeviceEstimates, device: str) -> Stream:
    return stream(device, estimates, 4, CONTEXT_TOKENS - 10, FLAT if place < 2 else GREEDY)


def short_answers(place: int, estimates: DeviceEstimates, device: str) -> Stream:
    sampling = FLAT if place % 2 else GREEDY
    return stream(device, estimates, 1, (1, 50, 1000)[place % 3], sampling)


def long_prompts(place: int, estimates: DeviceEstimates, device: str) -> Stream:
    return stream(device, estimates, CONTEXT_TOKENS - 2, 1)


def everything(place: int, estimates: DeviceEstimates, device: str) -> Stream:
    return (some_flat_rows if place < NUM_STREAMS - 2 else long_prompts)(place, estimates, device)


def drafts(place: int, estimates: DeviceEstimates, device: str) -> Stream:
    return drafting(streams(place, estimates, device))


def long_drafts(place: int, estimates: DeviceEstimates, device: str) -> Stream:
    return drafting(streams(place, estimates, device), draft_length=64)


def long_flat_drafts(place: int, estimates: DeviceEstimates, device: str) -> Stream:
    return drafting(flat_rows(place, estimates, device), draft_length=64)


def drafting(one: Stream, draft_length: int | None = None) -> Stream:
    one.request = dataclasses.replace(one.request, draft_length=draft_length)
    one.board_is_ready = True
    return one


ATTACKERS: dict[str, Ask] = {
    "streams": streams,
    "flat rows": flat_rows,
    "some flat rows": some_flat_rows,
    "short answers": short_answers,
    "long prompts": long_prompts,
    "everything": everything,
    "drafts": drafts,
    "bursts of drafts": drafts,
    "long drafts": long_drafts,
    "long flat drafts": long_flat_drafts,
}


class Played:
    """Rounds one after the other, as long as they take."""

    def __init__(self) -> None:
        block_tokens = TargetSection().block_tokens
        self.planner = RoundPlanner(
            round_settings(RoundsSection()),
            policy_named(RoundsSection().policy),
            cost_curve(),
            BlockPool(CACHE_TOKENS // block_tokens, block_tokens),
        )
        self.now = 0.0
        self.last: dict[int, float] = {}
        self.gaps: list[float] = []  # between tokens of a stream of the honest device

    def top_up(self, asked: dict[str, tuple[Ask, DeviceEstimates, dict[int, Stream]]]) -> None:
        """Open again what has ended."""
        for device, (ask, estimates, open_streams) in asked.items():
            for place in range(NUM_STREAMS):
                if (held := open_streams.get(place)) is None or held.finish is not None:
                    open_streams[place] = ask(place, estimates, device)
                    self.planner.add(open_streams[place])

    def draft(self, streams: Iterable[Stream]) -> None:
        """Boards send what the target will say, as far as their windows go."""
        for one in streams:
            room = one.window - len(one.path.live)
            if room > 0:
                tokens = chunk(*[ACCEPTED_ID] * room, has_rows=False)
                send(one, tokens, self.now, drafting_seconds=TOKEN_SECONDS * room)

    def play_round(self, honest: list[Stream]) -> None:
        """One, in which every stream with a row gets a token, and all its drafts are accepted."""
        round_ = self.planner.start_round(self.now)
        assert round_ is not None
        self.now += seconds_of(round_)
        self.planner.finish_round(round_, _outcome(round_), seconds_of(round_), self.now)
        served = {item.stream for item in round_.items if item.draft_check is not None}
        for one in honest:
            if one.number in served:
                self.gaps.append(self.now - self.last.get(one.number, self.now))
                self.last[one.number] = self.now


def _outcome(round_: Round) -> RoundOutcome:
    checks = [item.draft_check for item in round_.items]
    items = tuple(
        [
            None if check is None else ItemOutcome(len(check.draft_token_ids), ACCEPTED_ID)
            for check in checks
        ]
    )
    rows = tuple([None if check is None else row_seconds_of(check) for check in checks])
    return RoundOutcome(items, seconds_of(round_), 0.0, row_seconds=rows)


def slow_seconds(*names: str) -> float:
    """The 99th percentile between two tokens of an honest device's streams beside these."""
    played, estimates = Played(), DeviceEstimates()
    honest = [stream("good", estimates, 4, CONTEXT_TOKENS - 10) for _ in range(2)]
    asked: dict[str, tuple[Ask, DeviceEstimates, dict[int, Stream]]] = {
        f"bad-{i}": (ATTACKERS[name], DeviceEstimates(), {}) for i, name in enumerate(names)
    }
    for one in honest:
        played.planner.add(one)
    for number in range(NUM_ROUNDS):
        played.top_up(asked)
        for name, (_, _, open_streams) in zip(names, asked.values(), strict=True):
            if "drafts" in name and (name != "bursts of drafts" or not number % BURST_ROUNDS):
                played.draft(open_streams.values())
        played.play_round(honest)
    return float(np.percentile(played.gaps[2 * WARM_UP_ROUNDS :], 99))


ALONE = slow_seconds()


@pytest.mark.parametrize(
    "names", list(itertools.combinations_with_replacement(ATTACKERS, 2)), ids=" and ".join
)
def test_beside_any_two_devices_rounds_are_hardly_longer(names: tuple[str, str]) -> None:
    assert slow_seconds(*names) <= MOST_SLOWER * ALONE
