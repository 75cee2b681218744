"""What an operator sets for devices while rounds run: who waits, weighs more, drafts less."""

from __future__ import annotations

import pytest

from tests.support.ends.planning import add, draft, finish, make_planner, make_stream, play, start
from verifier.policies.goodspeed import GoodspeedPolicy
from verifier.rounds.operators_terms import set_device_terms
from verifier.rounds.planner import RoundPlanner
from verifier.streams.stream import Stream


def two_devices(**changes: object) -> tuple[RoundPlanner, Stream, Stream]:
    """A planner with one stream of the kitchen and one of the garage, each with its first token."""
    planner = make_planner(**changes)  # type: ignore[arg-type]
    kitchen, garage = make_stream(1, device="kitchen"), make_stream(2, device="garage")
    add(planner, kitchen, garage)
    play(planner)
    return planner, kitchen, garage


def numbers(planner: RoundPlanner, now: float) -> set[int]:
    round_ = start(planner, now)
    finish(planner, round_, now=now + 0.1)
    return {item.stream for item in round_.items}


@pytest.mark.parametrize("is_barrier", [False, True])
def test_streams_of_a_paused_device_wait_and_others_go_on(is_barrier: bool) -> None:
    planner, _, _ = two_devices(is_barrier=is_barrier)
    set_device_terms(planner, frozenset({"kitchen"}), {}, {})
    assert [{2}, {2}] == [numbers(planner, now) for now in (1.0, 2.0)]
    set_device_terms(planner, frozenset(), {}, {})
    assert {1, 2} == numbers(planner, 3.0)


def test_a_paused_stream_keeps_what_it_has_and_goes_on_from_there() -> None:
    planner, kitchen, garage = two_devices()
    kitchen.board_is_ready = True
    play(planner, 0.5)
    before = list(kitchen.output_ids)
    draft(kitchen, 20, 20, now=0.7)
    set_device_terms(planner, frozenset({"kitchen"}), {}, {})
    for now in range(1, 30):
        if garage.finish is None:
            numbers(planner, float(now))
    assert before == list(kitchen.output_ids)
    set_device_terms(planner, frozenset(), {}, {})
    round_ = start(planner, 40.0)
    assert [3] == [len(item.token_ids) for item in round_.items]  # with the draft of before
    finish(planner, round_, {1: (2, 20)}, now=40.1)
    assert [*before, 20, 20, 20] == list(kitchen.output_ids)


def test_a_verifier_whose_devices_are_all_paused_sleeps() -> None:
    planner, kitchen, _ = two_devices(draft_timeout_seconds=1.0)
    kitchen.board_is_ready = True
    play(planner, 0.5)
    set_device_terms(planner, frozenset({"kitchen", "garage"}), {}, {})
    assert planner.start_round(100.0) is None
    assert planner.next_deadline() is None


def test_a_paused_stream_gives_its_place_to_one_that_waits() -> None:
    """With 12 blocks of 4 tokens there is room for one stream alone."""
    planner = make_planner(num_blocks=8, reserved_output_tokens=20)
    kitchen, garage = make_stream(1, device="kitchen"), make_stream(2, device="garage")
    add(planner, kitchen, garage)
    play(planner)
    assert [2] == list(planner.queue)
    set_device_terms(planner, frozenset({"kitchen"}), {}, {})
    assert {2} == numbers(planner, 1.0)


def granted(planner: RoundPlanner, *streams: Stream, now: float) -> list[int]:
    play(planner, now)
    return [stream.draft_length for stream in streams]


def test_a_heavier_device_gets_more_of_the_budget_from_the_next_plan_on() -> None:
    planner, kitchen, garage = two_devices(policy=GoodspeedPolicy(), budget_tokens=4)
    for stream in (kitchen, garage):
        stream.board_is_ready = True
    assert [2, 2] == granted(planner, kitchen, garage, now=1.0)
    set_device_terms(planner, frozenset(), {"garage": 100.0}, {})
    lengths = granted(planner, kitchen, garage, now=2.0)
    assert lengths[1] > lengths[0]
    set_device_terms(planner, frozenset(), {}, {})
    assert [2, 2] == granted(planner, kitchen, garage, now=3.0)


def test_a_capped_device_drafts_no_more_than_that() -> None:
    planner, kitchen, garage = two_devices()
    for stream in (kitchen, garage):
        stream.board_is_ready = True
    assert [4, 4] == granted(planner, kitchen, garage, now=1.0)
    set_device_terms(planner, frozenset(), {}, {"kitchen": 1})
    assert [1, 4] == granted(planner, kitchen, garage, now=2.0)
    set_device_terms(planner, frozenset(), {}, {"kitchen": 0})
    assert [0, 4] == granted(planner, kitchen, garage, now=3.0)


def test_a_wish_of_a_client_does_not_go_beyond_the_cap() -> None:
    planner = make_planner()
    stream = make_stream(1, device="kitchen", draft_length=6)
    add(planner, stream)
    stream.board_is_ready = True
    assert [6] == granted(planner, stream, now=1.0)
    set_device_terms(planner, frozenset(), {}, {"kitchen": 2})
    assert [2] == granted(planner, stream, now=2.0)
