"""What a board does for a stream: every state against every event, and the states that occur."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from itertools import product

import pytest

from edge_agent.drafting.board_state import (
    READINESS,
    SLOT,
    TURN,
    BoardEvent,
    BoardState,
    Readiness,
    Slot,
    Turn,
)
from tests.edge_agent.drafting.test_stream import draft, draw_step, open_stream, running, verdict

# The next state: a column for each state, a row for each event.
READINESS_GRID = """
from              away     reading  ready
opened            reading  reading  ready
link lost         away     away     away
ready said        away     ready    ready
window lost       away     reading  reading
verdict came      away     reading  ready
draft sent        away     reading  ready
drafting stopped  away     reading  ready
slot taken        away     reading  ready
slot left         away     reading  ready
step ended        away     reading  ready
"""
TURN_GRID = """
from              drafting  sent      stopped
opened            drafting  sent      stopped
link lost         drafting  drafting  drafting
ready said        drafting  sent      stopped
window lost       drafting  sent      stopped
verdict came      drafting  drafting  drafting
draft sent        sent      sent      stopped
drafting stopped  stopped   stopped   stopped
slot taken        drafting  sent      stopped
slot left         drafting  sent      stopped
step ended        drafting  sent      stopped
"""
SLOT_GRID = """
from              none  held     doubted
opened            none  held     doubted
link lost         none  held     doubted
ready said        none  held     doubted
window lost       none  doubted  doubted
verdict came      none  held     doubted
draft sent        none  held     doubted
drafting stopped  none  held     doubted
slot taken        held  held     doubted
slot left         none  none     none
step ended        none  held     held
"""


def cells(grid: str, states: type[Enum]) -> Iterator[tuple[Enum, BoardEvent, Enum]]:
    """(state, event, next state) of every cell."""
    heading, *lines = grid.strip().splitlines()
    columns = [states(name) for name in heading.split()[1:]]
    for line in lines:
        *words, first, second, third = line.split()
        for state, following in zip(columns, (first, second, third), strict=True):
            yield state, BoardEvent(" ".join(words)), states(following)


GRIDS: tuple[tuple[str, str, type[Enum], Mapping[tuple[Enum, BoardEvent], Enum]], ...] = (
    ("readiness", READINESS_GRID, Readiness, READINESS),
    ("turn", TURN_GRID, Turn, TURN),
    ("slot", SLOT_GRID, Slot, SLOT),
)


@pytest.mark.parametrize(("name", "grid", "states", "table"), GRIDS)
def test_every_state_meets_every_event(
    name: str,
    grid: str,
    states: type[Enum],
    table: Mapping[tuple[Enum, BoardEvent], Enum],
) -> None:
    seen = set()
    for state, event, expected in cells(grid, states):
        before = BoardState(**{name: state})
        assert expected == getattr(before.after(event), name), (state, event)
        seen.add((state, event))
    assert set(product(states, BoardEvent)) == seen


@pytest.mark.parametrize(("name", "grid", "states", "table"), GRIDS)
def test_a_table_holds_what_changes_and_nothing_else(
    name: str,
    grid: str,
    states: type[Enum],
    table: Mapping[tuple[Enum, BoardEvent], Enum],
) -> None:
    changes = {(state, event): new for state, event, new in cells(grid, states) if new != state}
    assert changes == table


def test_no_answer_depends_on_the_others() -> None:
    tables = {name: {(s, e): n for s, e, n in cells(grid, t)} for name, grid, t, _ in GRIDS}
    for readiness, turn, slot, event in product(Readiness, Turn, Slot, BoardEvent):
        expected = (
            tables["readiness"][readiness, event],
            tables["turn"][turn, event],
            tables["slot"][slot, event],
        )
        after = BoardState(readiness, turn, slot).after(event)
        assert expected == (after.readiness, after.turn, after.slot)


# --- states that a stream is really in ------------------------------------------------------------


def test_a_board_drafts_sends_stops_and_begins_anew() -> None:
    stream = running(draft_length=2)
    turns = [stream.state.turn]
    draft(stream, 31, 32)
    turns.append(stream.state.turn)
    draft(stream, None)
    turns.append(stream.state.turn)
    verdict(stream, accepted=1)
    turns.append(stream.state.turn)
    assert [Turn.DRAFTING, Turn.SENT, Turn.STOPPED, Turn.DRAFTING] == turns


def test_a_board_that_stopped_may_be_ready_or_not() -> None:
    reading = open_stream()
    step = reading.next_step()
    assert step is not None
    reading.record_failure(step)
    assert (Readiness.READING, Turn.STOPPED) == (reading.state.readiness, reading.state.turn)
    ready = running()
    ready.record_failure(draw_step(ready)[0])
    assert (Readiness.READY, Turn.STOPPED) == (ready.state.readiness, ready.state.turn)


def test_a_model_is_doubted_from_a_lost_window_to_its_next_step_whatever_the_link_does() -> None:
    stream = running()
    step, _ = draw_step(stream)
    verdict(stream, 21, window=0)
    slots = [stream.state.slot]
    stream.reopen(9)
    slots.append(stream.state.slot)
    stream.record_step(step, None, 0.1, 0.0)
    slots.append(stream.state.slot)
    assert [Slot.DOUBTED, Slot.DOUBTED, Slot.HELD] == slots
    assert Readiness.AWAY is stream.state.readiness
