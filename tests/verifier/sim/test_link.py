"""Messages of a link arrive in their order, as late as the link is long, narrow and lossy."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from verifier.sim.link import Lane, LinkSpec


def lane(**changes: float) -> Lane:
    usual = {"one_way_seconds": 0.05, "jitter": 0.0, "loss": 0.0, "resend_seconds": 0.2}
    return Lane(LinkSpec(**(usual | {"bytes_per_second": 0.0} | changes)), Random(1))


def test_a_message_takes_half_a_round_trip() -> None:
    assert pytest.approx(1.05) == lane().arrival(1.0, 20)


def test_jitter_spreads_arrivals_around_that_and_keeps_their_order() -> None:
    shaken = lane(jitter=0.5)
    arrivals = [shaken.arrival(0.001 * i, 20) for i in range(500)]
    assert arrivals == sorted(set(arrivals))
    steps = {round(after - before, 6) for before, after in pairwise(arrivals)}
    assert len(steps) > 5


def test_a_narrow_link_sends_one_message_after_the_other() -> None:
    narrow = lane(bytes_per_second=1000.0)
    assert pytest.approx([0.15, 0.25, 1.05]) == [
        narrow.arrival(now, num_bytes) for now, num_bytes in ((0.0, 100), (0.0, 100), (1.0, 0))
    ]


def test_a_lost_message_holds_up_those_behind_it() -> None:
    lossy = lane(loss=0.5)
    arrivals = [lossy.arrival(0.0, 20) for _ in range(10)]
    assert pytest.approx(0.05) == arrivals[0] % 0.2
    assert arrivals[-1] > 0.4
