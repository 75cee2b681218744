"""Rounds that lose their workers are halved until the guilty stream stands alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.ends.planning import make_stream
from verifier.rounds.quarantine import Quarantine
from verifier.streams.stream import Stream


def streams(count: int) -> list[Stream]:
    return [make_stream(number) for number in range(count)]


@given(st.integers(1, 80), st.data())
def test_the_guilty_end_and_no_other(count: int, data: st.DataObject) -> None:
    all_of_it = streams(count)
    guilty = data.draw(st.lists(st.sampled_from(all_of_it), min_size=1, max_size=3, unique=True))
    quarantine, ended, num_losses = Quarantine(), [], 0
    waiting = list(all_of_it)
    for _ in range(40 * len(guilty) + 4 * count):
        taken = list(quarantine.together(waiting))
        if not taken:
            break
        if any(stream in guilty for stream in taken):
            num_losses += 1
            gone = quarantine.lost(taken)
            ended += gone
            waiting = [stream for stream in waiting if stream not in gone]
        else:
            quarantine.acquit(taken)
        waiting = [*waiting[1:], *waiting[:1]]
    assert sorted(s.number for s in guilty) == sorted(s.number for s in ended)
    assert num_losses <= len(guilty) * (4 + count.bit_length()) + 3


def test_a_worker_that_dies_once_is_held_against_no_stream() -> None:
    quarantine, all_of_it = Quarantine(), streams(4)
    assert [] == quarantine.lost(all_of_it)
    assert all_of_it == quarantine.together(all_of_it)
    quarantine.acquit(all_of_it)
    assert [] == quarantine.lost(all_of_it)
    assert all_of_it == quarantine.together(all_of_it)


def test_suspects_and_others_take_turns() -> None:
    quarantine, suspects, others = Quarantine(), streams(4), streams(8)[4:]
    quarantine.lost(suspects)
    quarantine.lost(suspects)
    both = [*others, *suspects]
    assert suspects[:2] == quarantine.together(both)
    assert others == quarantine.together(both)
    assert suspects[:2] == quarantine.together(both)


def test_without_a_loss_nothing_is_asked() -> None:
    quarantine, all_of_it = Quarantine(), streams(3)
    assert all_of_it is quarantine.together(all_of_it)
