"""What messages are charged for: the loop's own work, and little for what cannot be much."""

from __future__ import annotations

import time

import pytest

from verifier.server.message_time import MOST_SMALL_SECONDS, SMALL_BYTES, MessageTime


def compute(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_a_large_frame_costs_the_work_that_it_made_and_not_what_the_loop_slept() -> None:
    message_time = MessageTime()
    message_time.begin(SMALL_BYTES + 1)
    compute(0.01)
    time.sleep(0.05)
    seconds = message_time.end()
    assert seconds is not None
    assert 0.01 <= seconds < 0.04


def test_a_short_draft_costs_a_bounded_time_whatever_came_between() -> None:
    message_time = MessageTime()
    message_time.begin(SMALL_BYTES)
    time.sleep(0.01)
    assert message_time.end() == MOST_SMALL_SECONDS


@pytest.mark.parametrize("num_bytes", [0, 1, SMALL_BYTES, SMALL_BYTES + 1])
def test_a_few_bytes_that_are_no_draft_cost_all_that_they_ask_for(num_bytes: int) -> None:
    message_time = MessageTime()
    message_time.begin(num_bytes)
    message_time.is_not_small()
    compute(0.01)
    seconds = message_time.end()
    assert seconds is not None
    assert seconds >= 0.01


def test_a_message_is_charged_once() -> None:
    message_time = MessageTime()
    assert message_time.end() is None
    message_time.begin(0)
    assert message_time.end() is not None
    assert message_time.end() is None
