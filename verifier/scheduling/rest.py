"""Boards that rest: no drafts are wanted of them for a while, so they need not read along either.

Where boards and verifier share cores, reading alone cost a fifth of all tokens per second (three
boards on two cores, 2026-11-27). This module must never decide whether boards rest.
"""

from __future__ import annotations

from collections.abc import Iterable

from verifier.scheduling.draft_plan import DraftPlan
from verifier.streams.stream import Stream


def let_rest(streams: Iterable[Stream], plan: DraftPlan) -> None:
    """Note which of these streams rest from now on.

    A board that loses its window says Ready when it has caught up, after the rest; until then it
    is not ready, whatever of its drafts is on the way.
    """
    if plan.rest_sentence is None:
        for stream in streams:
            stream.rests = False
        return
    for stream in streams:
        rests = plan.lets_rest(stream)
        if rests and not stream.rests and stream.window:
            stream.board_is_ready = False
        stream.rests = rests
