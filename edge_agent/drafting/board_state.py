"""What a board does for one stream: three small state machines, moved by the same events.

Each answers one question, and none follows from the others: a board that stopped on the prompt may
still be ready, and one that was ready may have lost its link. The tables are all there is to it; a
pair that a table does not hold leaves the state as it is. This module must never act.

StrEnum hashes as fast as its string, Enum takes twice as long (one x86 core, Python 3.11,
2026-11-26).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from enum import StrEnum

import msgspec


class Readiness(StrEnum):
    """What the verifier may expect of the board."""

    AWAY = "away"  # nothing: it does not run the stream on this connection yet
    READING = "reading"  # nothing yet: `Ready` was not said since it runs it, or took the window
    READY = "ready"  # drafts: `Ready` was said, and a window may be granted


class Turn(StrEnum):
    """What the board did since the latest verdict."""

    DRAFTING = "drafting"  # no Draft was sent
    SENT = "sent"  # one was; it drafts on ahead
    STOPPED = "stopped"  # it computes nothing until the next verdict; after the last one: ever


class Slot(StrEnum):
    """What the stream has of the draft model."""

    NONE = "none"  # it waits for a slot, or there is no model: n-grams alone
    HELD = "held"
    DOUBTED = "doubted"  # held, but the window was lost, perhaps to a model that hangs


class BoardEvent(StrEnum):
    """What moves them."""

    OPENED = "opened"  # the verifier runs the stream on this connection
    LINK_LOST = "link lost"
    READY_SAID = "ready said"
    WINDOW_LOST = "window lost"  # drafts do not pay, or the verifier waited too long for one
    VERDICT_CAME = "verdict came"
    DRAFT_SENT = "draft sent"  # or a pass
    DRAFTING_STOPPED = "drafting stopped"  # the model is not sure or failed; the stream ended
    SLOT_TAKEN = "slot taken"
    SLOT_LEFT = "slot left"
    STEP_ENDED = "step ended"  # the model has read, and maybe drawn


_R, _T, _S, _E = Readiness, Turn, Slot, BoardEvent

READINESS: Mapping[tuple[Readiness, BoardEvent], Readiness] = {
    (_R.AWAY, _E.OPENED): _R.READING,
    (_R.READING, _E.READY_SAID): _R.READY,
    (_R.READY, _E.WINDOW_LOST): _R.READING,
    (_R.READING, _E.LINK_LOST): _R.AWAY,
    (_R.READY, _E.LINK_LOST): _R.AWAY,
}
TURN: Mapping[tuple[Turn, BoardEvent], Turn] = {
    (_T.DRAFTING, _E.DRAFT_SENT): _T.SENT,
    (_T.DRAFTING, _E.DRAFTING_STOPPED): _T.STOPPED,
    (_T.SENT, _E.DRAFTING_STOPPED): _T.STOPPED,
    (_T.SENT, _E.VERDICT_CAME): _T.DRAFTING,
    (_T.STOPPED, _E.VERDICT_CAME): _T.DRAFTING,
    (_T.SENT, _E.LINK_LOST): _T.DRAFTING,
    (_T.STOPPED, _E.LINK_LOST): _T.DRAFTING,
}
SLOT: Mapping[tuple[Slot, BoardEvent], Slot] = {
    (_S.NONE, _E.SLOT_TAKEN): _S.HELD,
    (_S.HELD, _E.WINDOW_LOST): _S.DOUBTED,
    (_S.DOUBTED, _E.STEP_ENDED): _S.HELD,
    (_S.HELD, _E.SLOT_LEFT): _S.NONE,
    (_S.DOUBTED, _E.SLOT_LEFT): _S.NONE,
}


class BoardState(msgspec.Struct, frozen=True):
    """The answers to all three; each event may change several."""

    readiness: Readiness = Readiness.AWAY
    turn: Turn = Turn.DRAFTING
    slot: Slot = Slot.HELD

    @property
    def may_hurry(self) -> bool:
        """Whether `Ready` may be said before the model has read; not where it may hang."""
        return self.readiness is Readiness.READING and self.slot is not Slot.DOUBTED

    def after(self, event: BoardEvent) -> BoardState:
        """The state when this has happened."""
        return _AFTER[self, event]


def _after(state: BoardState, event: BoardEvent) -> BoardState:
    return BoardState(
        readiness=READINESS.get((state.readiness, event), state.readiness),
        turn=TURN.get((state.turn, event), state.turn),
        slot=SLOT.get((state.slot, event), state.slot),
    )


# Looked up, not made: several happen for each draft token.
_AFTER = {
    (state, event): _after(state, event)
    for state in itertools.starmap(BoardState, itertools.product(Readiness, Turn, Slot))
    for event in BoardEvent
}
