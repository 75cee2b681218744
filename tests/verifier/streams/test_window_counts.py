"""What became of windows, counted."""

from __future__ import annotations

import pytest

from shared.protocol.draft_path import DraftToken, Extension
from tests.support.ends.planning import draft, make_planner, make_stream
from tests.support.ends.planning import finish as finish_round
from tests.support.ends.planning import start as start_round
from verifier.streams.stream import Stream
from verifier.streams.window_counts import WindowCounts


def drafting() -> tuple[Stream, WindowCounts]:
    """A stream that has its first window, at position 1."""
    stream = make_stream(max_output_tokens=60)
    stream.estimates.speed.draft_token_seconds = 0.01
    stream.estimates.speed.round_trip_seconds = 0.2
    stream.board_is_ready = True
    return stream, stream.device_estimates.windows


def test_hits_late_and_dead_tokens_and_the_time_that_nobody_waited() -> None:
    planner = make_planner()
    stream, counts = drafting()
    planner.add(stream)
    finish_round(planner, start_round(planner))  # reads the prompt, before any window
    assert WindowCounts() == counts
    finish_round(planner, start_round(planner))  # a miss: token 20 at position 1
    assert (1, 0) == (counts.num_rounds, counts.num_hits)
    draft(stream, 20, 31, 32, position=1)  # the first one is late
    assert 1 == counts.num_late_tokens
    finish_round(planner, start_round(planner), {1: (1, 33)})  # 31 is accepted, 32 is not
    assert (2, 1, 1) == (counts.num_rounds, counts.num_hits, counts.num_dead_tokens)
    # A tenth less a token by now: the board said that it had needed no time.
    assert 0.2 + 2 * 0.009 == pytest.approx(counts.hidden_seconds)
    old = Extension(base=1, position=4, tokens=(DraftToken(34), DraftToken(35)))
    stream.receive_draft(old, 0.02, 0.3)  # of the path that has died
    assert 3 == counts.num_dead_tokens
