"""A length that a request fixes is a wish: it skips the guard, never what others are promised."""

from __future__ import annotations

import pytest

from tests.support.ends.planning import (
    add,
    draft,
    finish,
    make_curve,
    make_planner,
    make_stream,
    start,
)
from verifier.policies import policy_named
from verifier.rounds.planner import RoundPlanner
from verifier.streams.stream import Stream

SLOWDOWN_LIMIT = 0.05  # the default
NUM_WISHES, NUM_ROUNDS = 8, 60


def planner_with_a_budget_of_its_own() -> RoundPlanner:
    return make_planner(
        policy=policy_named("goodspeed"),
        num_blocks=2000,
        budget_tokens=None,
        max_draft_length=16,
        max_window=64,
        uses_guard=True,
    )


def wishful(number: int, mode: str, device: str = "bad") -> Stream:
    return make_stream(
        number, device=device, mode=mode, draft_length=16, max_output_tokens=NUM_ROUNDS + 1
    )


def play(planner: RoundPlanner, streams: list[Stream]) -> list[int]:
    """The tokens of each round in which boards draft all that they may, and nothing is right."""
    add(planner, *streams)
    sizes = []
    for number in range(NUM_ROUNDS - 2):
        for stream in streams:
            stream.board_is_ready = True
            if stream.window and not stream.path.live:
                draft(stream, *[31] * min(stream.window, 16), now=float(number))
        round_ = start(planner, float(number))
        sizes.append(round_.num_tokens)
        finish(planner, round_, now=number + 0.1)
    return sizes[5:]  # past the prompts


@pytest.mark.parametrize("mode", ["rejection", "coupled"])
def test_what_a_device_wishes_lengthens_rounds_of_others_no_more_than_the_limit(mode: str) -> None:
    planner = planner_with_a_budget_of_its_own()
    honest = make_stream(99, device="honest", draft_length=0, max_output_tokens=NUM_ROUNDS)
    wishes = [wishful(number, mode) for number in range(NUM_WISHES)]
    sizes = play(planner, [*wishes, honest])
    curve = make_curve()
    alone = curve.round_seconds(NUM_WISHES + 1, 0)
    assert curve.round_seconds(max(sizes), 0) <= (1.0 + SLOWDOWN_LIMIT) * alone + 1e-9
    assert NUM_ROUNDS - 2 == honest.position


@pytest.mark.parametrize("mode", ["rejection", "coupled"])
def test_a_device_alone_gets_the_length_that_it_wishes(mode: str) -> None:
    planner = planner_with_a_budget_of_its_own()
    sizes = play(planner, [wishful(1, mode)])
    assert 17 == max(sizes)


def test_a_wish_that_fits_in_the_budget_is_granted_beside_other_devices() -> None:
    planner = make_planner(policy=policy_named("goodspeed"), budget_tokens=64)
    streams = [wishful(1, "rejection"), make_stream(2, device="honest", draft_length=0)]
    for stream in streams:
        stream.board_is_ready = True
    add(planner, *streams)
    finish(planner, start(planner))
    assert 8 == streams[0].draft_length  # the longest of this planner
