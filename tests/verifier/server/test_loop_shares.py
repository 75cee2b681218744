"""Who waits when the messages of all devices take too much of the event loop."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.server.loop_shares import (
    ACTIVE_SECONDS,
    BURST_SECONDS,
    DEVICE_BURST_SECONDS,
    PART_OF_LOOP,
    PART_OF_MANY,
    LoopShares,
)

MESSAGE_SECONDS = 0.001


def play(wishes: dict[str, float], seconds: float = 20.0) -> dict[str, float]:
    """The part of the loop that each device gets; `wishes` are the parts that they ask for."""
    shares = LoopShares()
    cost = MESSAGE_SECONDS
    next_at = dict.fromkeys(wishes, 0.0)
    spent: dict[str, float] = defaultdict(float)
    while (now := min(next_at.values())) < seconds:
        device = min(next_at, key=next_at.__getitem__)
        wait = shares.seconds_to_wait(device, now)
        if wait:
            next_at[device] = now + wait
            continue
        shares.spend(device, MESSAGE_SECONDS, now)
        spent[device] += cost
        next_at[device] = now + cost / wishes[device]
    return {device: spent[device] / seconds for device in wishes}


def test_who_says_little_never_waits() -> None:
    got = play({"loud": 10.0, "louder": 20.0, "quiet": 0.05})
    assert 0.05 == pytest.approx(got["quiet"], rel=0.05)


def test_many_together_take_no_more_than_the_part_of_many() -> None:
    wishes = {f"loud {number}": 10.0 for number in range(8)}
    got = play(wishes)
    assert PART_OF_MANY == pytest.approx(sum(got.values()), rel=0.05)
    assert max(got.values()) == pytest.approx(min(got.values()), rel=0.05)


def test_while_all_take_little_a_device_may_say_more_than_others() -> None:
    got = play({"busy": 0.12} | {f"quiet {number}": 0.001 for number in range(20)})
    assert 0.12 == pytest.approx(got["busy"], rel=0.05)


def test_many_devices_alike_may_take_more_than_one_that_floods() -> None:
    wishes = {f"board {number}": 0.004 for number in range(100)}
    assert 0.4 == pytest.approx(sum(play(wishes).values()), rel=0.05)


@pytest.mark.parametrize("num_others", range(3))
def test_a_flood_takes_the_part_of_all_however_few_are_there(num_others: int) -> None:
    got = play({"loud": 10.0} | {f"quiet {number}": 0.001 for number in range(num_others)})
    assert PART_OF_LOOP == pytest.approx(sum(got.values()), rel=0.05)


def test_a_silent_device_is_forgotten() -> None:
    shares = LoopShares()
    shares.spend("loud", 1.0, 0.0)
    assert 0.0 < shares.seconds_to_wait("loud", 0.0)
    shares.spend("other", 0.0, ACTIVE_SECONDS + 0.1)
    assert 0.0 == shares.seconds_to_wait("loud", ACTIVE_SECONDS + 0.1)
    assert {"loud": 1.0, "other": 0.0} == shares.spent_seconds


@given(
    costs=st.lists(st.floats(0.0, 0.05), min_size=1, max_size=60),
    others=st.integers(0, 5),
)
@settings(max_examples=50, deadline=None)
def test_whatever_a_message_costs_a_device_stays_within_its_share(
    costs: list[float], others: int
) -> None:
    shares = LoopShares()
    for number in range(others):
        shares.spend(f"other {number}", 1.0, 0.0)
    now = spent = 0.0
    for cost in costs:
        while wait := shares.seconds_to_wait("device", now):
            now += wait
        shares.spend("device", cost, now)
        spent += cost
        most = PART_OF_MANY * now + BURST_SECONDS + DEVICE_BURST_SECONDS + cost
        assert spent <= most + 1e-9
