"""The gate of a port: who asks for nothing goes in time, and no more of them stay than may."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.daemon.connection_gate import (
    ConnectionGate,
    GatedConnection,
    GateLimits,
    gated_connection_of,
)
from shared.daemon.strangers import Pace, StrangerLimits, Strangers


class Clock:
    """`call_later` and `time` of an event loop that a test turns by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self, self.now + seconds, call))
        return self.timers[-1]

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for timer in [timer for timer in self.timers if timer.due <= self.now]:
            if timer in self.timers:
                self.timers.remove(timer)
                timer.call()


class Timer:
    def __init__(self, clock: Clock, due: float, call: Callable[[], None]) -> None:
        self.clock, self.due, self.call = clock, due, call

    def cancel(self) -> None:
        if self in self.clock.timers:
            self.clock.timers.remove(self)


class Wire:
    """A transport."""

    def __init__(self, address: str, connection: GatedConnection) -> None:
        self.address, self.connection = address, connection
        self.is_aborted = False
        self.is_closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self.address, 1234) if name == "peername" else default

    def get_protocol(self) -> GatedConnection:
        return self.connection

    def abort(self) -> None:
        self.is_aborted = True

    def close(self) -> None:
        self.is_closed = True


class Handler:
    """An HTTP server's end of a connection: notes what it is called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def connection_made(self, transport: Wire) -> None:
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        self.calls.append(data)

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return True

    def close(self) -> None:
        self.calls.append("close")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.calls.append(error)


def make_door(
    max_idle: int = 100, *, answers_half_closed: bool = False
) -> tuple[ConnectionGate, Clock]:
    clock = Clock()
    limits = GateLimits(
        max_idle=max_idle,
        idle_seconds=10.0,
        stall_seconds=30.0,
        answers_half_closed=answers_half_closed,
    )
    return ConnectionGate(Handler, clock.call_later, clock.time, limits), clock


def visit(gate: ConnectionGate, address: str = "1.1.1.1") -> Wire:
    connection = gate()
    wire = Wire(address, connection)
    connection.connection_made(wire)
    return wire


def leave(wire: Wire) -> None:
    wire.connection.connection_lost(None)


def test_everything_is_handed_on() -> None:
    gate, _ = make_door()
    connection = visit(gate).connection
    connection.data_received(b"GET")
    connection.pause_writing()
    connection.resume_writing()
    assert connection.eof_received()
    error = ConnectionError()
    connection.connection_lost(error)
    assert ["made", b"GET", "pause", "resume", "eof", error] == connection._handler.calls


def test_who_asks_for_nothing_has_to_go() -> None:
    gate, clock = make_door()
    wire = visit(gate)
    wire.connection.data_received(b"GET / HT")  # a head that never ends is none
    clock.advance(9.9)
    assert not wire.is_aborted
    clock.advance(0.1)
    assert wire.is_aborted
    assert 0 == gate.num_idle


def test_a_request_in_hand_may_take_its_time() -> None:
    gate, clock = make_door()
    wire = visit(gate)
    with wire.connection.in_hand():
        assert (0, 1) == (gate.num_idle, gate.num_in_hand)
        clock.advance(1000.0)
        assert not wire.is_aborted
    assert (1, 0) == (gate.num_idle, gate.num_in_hand)
    clock.advance(10.0)
    assert wire.is_aborted


def test_who_says_no_more_has_an_answer_if_one_is_on_its_way() -> None:
    gate, clock = make_door(answers_half_closed=True)
    asks, idles = visit(gate), visit(gate)
    told: list[str] = []
    with asks.connection.in_hand():
        asks.connection.on_half_close = lambda: told.append("half-closed")
        for wire in (asks, idles):
            assert wire.connection.eof_received() is True
            assert wire.connection.is_half_closed
        clock.advance(5.0)
        assert (False, True) == (asks.is_closed, idles.is_closed)
    assert ["half-closed"] == told
    assert ["made", "close"] == asks.connection._handler.calls


def test_a_connection_for_which_the_end_is_the_end_hands_it_on() -> None:
    gate, _ = make_door(answers_half_closed=True)
    wire = visit(gate)
    wire.connection.stays_half_closed = False
    wire.connection.eof_received()
    assert ["made", "eof"] == wire.connection._handler.calls


def test_a_connection_that_was_lost_during_its_request_is_not_counted_again() -> None:
    gate, clock = make_door()
    wire = visit(gate)
    with wire.connection.in_hand():
        leave(wire)
    assert (0, 0, []) == (gate.num_idle, gate.num_in_hand, clock.timers)


LIMITS = StrangerLimits(of_address=Pace(1.0, 2.0), together=Pace(10.0, 20.0))


def make_guarded_door() -> tuple[ConnectionGate, Clock]:
    clock = Clock()
    limits = GateLimits(max_idle=100, idle_seconds=10.0, stall_seconds=30.0)
    gate = ConnectionGate(Handler, clock.call_later, clock.time, limits, Strangers(LIMITS))
    return gate, clock


def turns(gate: ConnectionGate, num_requests: int, cost: float = 1.0) -> list[float | None]:
    """How long the answers to a stranger's requests have to wait."""
    connection = visit(gate).connection
    connection.request_cost = cost
    with connection.in_hand():
        return [connection.seconds_until_turn() for _ in range(num_requests)]


def test_a_stranger_waits_for_his_turn_and_then_has_to_go() -> None:
    gate, _ = make_guarded_door()
    assert [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, None, None] == turns(gate, 9)
    late = gate()
    wire = Wire("1.1.1.1", late)
    late.connection_made(wire)
    assert wire.is_aborted
    late.data_received(b"GET")
    assert late.eof_received() is None
    late.connection_lost(None)
    assert late._handler is None
    assert not visit(gate, "2.2.2.2").is_aborted


def test_who_shows_a_right_token_waits_for_nothing_and_a_wrong_one_costs_more() -> None:
    gate, _ = make_guarded_door()
    connection = visit(gate).connection
    for _ in range(100):
        connection.request_cost = 1.0
        connection.welcome()
        assert 0.0 == connection.seconds_until_turn()
    connection.mistrust()
    assert 3.0 == connection.seconds_until_turn()


@pytest.mark.parametrize(("said", "num_visits"), [(b"", 70), (b"\x16\x03", 7)])
def test_who_comes_for_nothing_pays_for_it(said: bytes, num_visits: int) -> None:
    gate, _ = make_guarded_door()
    for _ in range(num_visits):
        wire = visit(gate)
        assert not wire.is_aborted
        if said:
            wire.connection.data_received(said)
        leave(wire)
    wire = visit(gate)
    wire.connection.data_received(b"x")
    leave(wire)
    assert visit(gate).is_aborted


def test_a_wait_ends_with_its_time_its_connection_or_the_server() -> None:
    gate, clock = make_guarded_door()
    taken: list[str] = []
    first, second, third = (visit(gate, name) for name in ("1", "2", "3"))
    for wire in (first, second, third):
        wire.connection.call_at_turn(3.0, lambda name=wire.address: taken.append(name))
    leave(second)
    clock.advance(3.0)
    assert ["2", "1", "3"] == taken
    first.connection.call_at_turn(3.0, lambda: taken.append("again"))
    gate.end_waits()
    clock.advance(3.0)
    assert ["2", "1", "3", "again"] == taken
    assert {} == gate.waiting


def test_who_reads_nothing_has_to_go() -> None:
    gate, clock = make_door()
    wire = visit(gate)
    with wire.connection.in_hand():
        wire.connection.pause_writing()
        clock.advance(20.0)
        wire.connection.resume_writing()
        clock.advance(20.0)
        wire.connection.pause_writing()
        assert not wire.is_aborted
        clock.advance(30.0)
        assert wire.is_aborted


def test_the_oldest_makes_room() -> None:
    gate, _ = make_door(max_idle=2)
    first, second, third = (visit(gate) for _ in range(3))
    assert [True, False, False] == [wire.is_aborted for wire in (first, second, third)]
    assert (2, 1) == (gate.num_idle, gate.num_sent_away)


def test_a_crowd_makes_room_for_others_not_they_for_it() -> None:
    gate, _ = make_door(max_idle=10)
    lonely = visit(gate, "2.2.2.2")
    crowd = [visit(gate, "6.6.6.6") for _ in range(1000)]
    newcomer = visit(gate, "3.3.3.3")
    assert not lonely.is_aborted
    assert not newcomer.is_aborted
    assert 8 == sum(not wire.is_aborted for wire in crowd)


def test_a_crowd_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    gate, _ = make_door(max_idle=1)
    for _ in range(100):
        visit(gate)
    sentence = "more than 1 connections ask for nothing; the oldest of 1.1.1.1 makes room"
    assert [sentence] == caplog.messages


def test_who_is_deaf_hands_nothing_on_but_still_counts() -> None:
    gate, _ = make_door()
    connection = visit(gate).connection
    counts: list[int] = []
    connection.on_bytes = counts.append
    connection.data_received(b"abc")
    connection.is_deaf = True
    connection.data_received(b"defg")
    assert ([3, 4], ["made", b"abc"]) == (counts, connection._handler.calls)


def test_a_visitor_is_found_by_its_transport() -> None:
    gate, _ = make_door()
    wire = visit(gate)
    assert wire.connection is gated_connection_of(wire)
    assert wire.connection.gate is gate
    assert gated_connection_of(None) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6), st.floats(0, 12))))
def test_whatever_comes_and_goes_nobody_is_lost_and_no_timer_left(
    steps: list[tuple[str, int, float]],
) -> None:
    gate, clock = make_door(max_idle=4)
    wires: list[Wire] = []
    for address, what, seconds in steps:
        clock.advance(seconds)
        match what:
            case 0 | 1 | 2:
                wires.append(visit(gate, address))
            case 3 if wires:
                leave(wires.pop(0))
            case 4 if wires:
                with wires[-1].connection.in_hand():
                    clock.advance(seconds)
            case _ if wires:
                wires[0].connection.pause_writing()
                wires[0].connection.resume_writing()
        for wire in [wire for wire in wires if wire.is_aborted]:
            wires.remove(wire)
            leave(wire)
        assert gate.num_idle == len(wires) <= 4
    for wire in wires:
        leave(wire)
    assert (0, 0, [], {}) == (gate.num_idle, gate.num_in_hand, clock.timers, gate._idle)
