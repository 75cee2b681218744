"""Strangers wait their turn: each address, and all of them together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.daemon import strangers as module
from shared.daemon.strangers import MOST_SECONDS, Pace, StrangerLimits, Strangers

LIMITS = StrangerLimits(of_address=Pace(10.0, 20.0), together=Pace(100.0, 200.0))
ONE, OTHER = "203.0.113.9", "198.51.100.7"


def charged(num_requests: int, address: str = ONE, now: float = 0.0) -> Strangers:
    strangers = Strangers(LIMITS)
    for _ in range(num_requests):
        strangers.charge(address, 1.0, now)
    return strangers


def test_a_burst_waits_for_nothing() -> None:
    assert 0.0 == charged(20).seconds_until_turn(ONE, 0.0)


def test_beyond_it_each_request_waits_for_those_before_it() -> None:
    strangers = charged(21)
    assert pytest.approx(0.1) == strangers.seconds_until_turn(ONE, 0.0)
    assert 0.0 == strangers.seconds_until_turn(ONE, 0.1)
    assert 0.0 == strangers.seconds_until_turn(OTHER, 0.0)


def test_who_asks_for_far_too_much_is_not_waited_for_and_is_forgiven_soon() -> None:
    strangers = charged(100_000)
    assert strangers.is_too_much(ONE, 0.0)
    assert not strangers.is_too_much(OTHER, MOST_SECONDS)
    assert not strangers.is_too_much(ONE, MOST_SECONDS + 0.1)
    assert 0.0 == strangers.seconds_until_turn(ONE, module.MOST_DEBT_SECONDS)
    assert 1 == strangers.num_refused


def test_many_addresses_together_are_bounded_too_but_not_those_that_are_known() -> None:
    strangers = Strangers(LIMITS)
    strangers.welcome(OTHER)
    for i in range(1000):
        strangers.charge(f"203.0.113.{i}", 1.0, 0.0)
    assert strangers.is_too_much("192.0.2.1", 0.0)
    assert 0.0 == strangers.seconds_until_turn(OTHER, 0.0)


def test_a_proxy_on_this_machine_stands_for_many() -> None:
    assert 0.0 == charged(100, "127.0.0.1").seconds_until_turn("127.0.0.1", 0.0)
    assert 0.0 < charged(101, "127.0.0.1").seconds_until_turn("127.0.0.1", 0.0)
    assert 0.0 < charged(101, "::1").seconds_until_turn("::1", 0.0)


def test_whoever_has_an_ipv6_address_has_its_whole_network() -> None:
    strangers = charged(21, "2001:db8:1:2::1")
    assert 0.0 < strangers.seconds_until_turn("2001:db8:1:2:ffff::7%eth0", 0.0)
    assert 0.0 == strangers.seconds_until_turn("2001:db8:1:3::1", 0.0)
    assert 0.0 == strangers.seconds_until_turn("no:address", 0.0)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ADDRESSES", 100)
    strangers = Strangers(LIMITS)
    for i in range(1000):
        strangers.charge(f"a{i}", 1.0, 0.0)
        strangers.welcome(f"a{i}")
    assert 101 == len(strangers._debts)
    assert 100 == len(strangers._known)
    strangers.welcome("b")
    assert 0.0 < strangers.seconds_until_turn("b", 0.0)  # of the account that the others share
    strangers.charge("c", 1.0, 100.0)
    assert 1 == len(strangers._debts)


@given(st.lists(st.tuples(st.sampled_from((ONE, OTHER)), st.floats(0, 0.5)), max_size=200))
def test_who_waits_his_turn_never_gets_more_than_his_pace(
    asked: list[tuple[str, float]],
) -> None:
    strangers, now, num_served = Strangers(LIMITS), 0.0, {ONE: 0, OTHER: 0}
    for address, pause in asked:
        now += pause
        strangers.charge(address, 1.0, now)
        if not strangers.is_too_much(address, now):
            turn = now + strangers.seconds_until_turn(address, now)
            num_served[address] += 1
            assert num_served[address] <= 20 + 10 * turn + 1e-6
