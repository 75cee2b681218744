"""A stream is fused or distributed; one grant alone does not change it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from verifier.policies import MEMORY_LENGTH
from verifier.streams.draft_mode import DraftMode
from verifier.streams.estimates import NO_MEMORY
from verifier.streams.window_counts import WindowCounts


def test_it_begins_distributed_and_two_grants_in_a_row_change_it() -> None:
    mode, seen = DraftMode(), []
    for granted in (0, 4, 0, 0, 0, 4, 0, 4, 4, 4):
        switched = mode.observe(granted)
        seen.append(switched or ("·", "f")[mode.is_fused])
    assert ["·", "·", "·", "fused", "f", "f", "f", "f", "distributed", "·"] == seen


def test_a_probe_now_and_then_is_no_change_of_mode() -> None:
    mode = DraftMode()
    switches = [mode.observe(4 if i % 10 == 9 else 0) for i in range(100)]
    assert (["fused"], True) == ([s for s in switches if s], mode.is_fused)


@given(st.lists(st.integers(0, 3)))
def test_switches_alternate_and_are_counted(granted: list[int]) -> None:
    mode, counts = DraftMode(), WindowCounts()
    for num_granted in granted:
        counts.count_switch(mode.observe(num_granted))
    assert mode.is_fused == (counts.num_to_fused > counts.num_to_distributed)
    assert counts.num_to_fused - counts.num_to_distributed in (0, 1)


def test_a_stream_has_room_for_what_policies_keep() -> None:
    assert MEMORY_LENGTH == len(NO_MEMORY)
