"""A device's prompt may be read at once in one round of many."""

from __future__ import annotations

from verifier.rounds.prefill_turns import ROUNDS_BETWEEN_TURNS, PrefillTurns


def test_a_device_has_a_turn_at_once_and_the_next_one_so_many_rounds_later() -> None:
    turns = PrefillTurns()
    assert [] == [*turns.without(1)]
    turns.take(["one"], 1)
    turns.take(["two"], 5)
    assert {"one", "two"} == {*turns.without(ROUNDS_BETWEEN_TURNS)}
    assert {"two"} == {*turns.without(ROUNDS_BETWEEN_TURNS + 1)}
    assert [] == [*turns.without(ROUNDS_BETWEEN_TURNS + 5)]


def test_what_is_known_of_a_device_is_forgotten_with_its_next_turn() -> None:
    turns = PrefillTurns()
    for number in range(10 * ROUNDS_BETWEEN_TURNS):
        assert len(turns.without(number)) < ROUNDS_BETWEEN_TURNS
        turns.take([f"board-{number}"], number)
