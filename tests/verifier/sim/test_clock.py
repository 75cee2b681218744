"""Simulated time lets things happen in their order."""

from __future__ import annotations

from verifier.sim.clock import HeapClock


def test_things_happen_in_order_and_equal_times_as_they_were_asked_for() -> None:
    clock, seen = HeapClock(), []
    for when, name in ((2.0, "c"), (1.0, "a"), (1.0, "b"), (9.0, "never")):
        clock.call_at(when, lambda name: seen.append((clock.now, name)), name)
    clock.run(until=5.0)
    assert [(1.0, "a"), (1.0, "b"), (2.0, "c")] == seen
    assert 5.0 == clock.now


def test_what_is_asked_for_too_late_happens_next() -> None:
    clock, seen = HeapClock(), []
    clock.run(until=3.0)
    clock.call_at(1.0, lambda: seen.append(clock.now))
    clock.run(until=4.0)
    assert [3.0] == seen
