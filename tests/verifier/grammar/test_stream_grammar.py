"""Who waits for whose masks: a slow grammar costs its own stream rounds, and others nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from verifier.grammar import stream_grammar
from verifier.grammar.mask_threads import MaskThreads
from verifier.grammar.matcher_state import MatcherState
from verifier.grammar.stream_grammar import SLOW_SECONDS, StreamGrammarInThreads
from verifier.target.token_masks import PackedMasks, TokenMasks

FORCED = (8, 9)
LEAST_SECONDS = 1e-3  # to say what is forced
LATER = 60.0  # seconds: no test waits so long


class GatedState(MatcherState):
    """A place in a grammar without one: its masks come when the test lets them."""

    def __init__(self) -> None:
        self.num_taken_in = 0
        self.most_mask_seconds = 0.0
        self.gate = threading.Event()
        self.gate.set()
        self.jobs: list[tuple[int, tuple[int, ...]]] = []  # position, drafts
        self.breaks = False
        self.mask_seconds = 0.0

    @property
    def is_broken(self) -> bool:
        return self.breaks

    @property
    def num_consumed(self) -> int:
        return self.num_taken_in

    def consume(self, token_ids: Sequence[int]) -> bool:
        self.num_taken_in += len(token_ids)
        return not self.breaks

    def masks(self, draft_token_ids: Sequence[int]) -> PackedMasks:
        assert self.gate.wait(10)
        self.jobs.append((self.num_consumed, tuple(draft_token_ids)))
        self.most_mask_seconds = self.mask_seconds
        return np.arange(len(draft_token_ids) + 1, dtype=np.uint32)[:, None]

    def advance(self, token_ids: Sequence[int], seconds: float) -> tuple[int, ...]:
        if seconds < LEAST_SECONDS:
            return ()
        self.num_taken_in += len(token_ids)
        return FORCED


@pytest.fixture
def threads() -> Iterator[MaskThreads]:
    threads = MaskThreads()
    yield threads
    threads.close()


@pytest.fixture
def state() -> Iterator[GatedState]:
    state = GatedState()
    yield state
    state.gate.set()


@pytest.fixture
def woken() -> threading.Event:
    return threading.Event()


@pytest.fixture
def grammar(
    state: GatedState, threads: MaskThreads, woken: threading.Event
) -> StreamGrammarInThreads:
    return StreamGrammarInThreads(state, threads, woken.set)


def rows(masks: TokenMasks, seconds: float = LATER) -> list[int] | None:
    made = masks.wait(time.monotonic() + seconds)
    return None if made is None else made[:, 0].tolist() if len(made) else []


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_round_gets_the_masks_of_its_drafts(
    grammar: StreamGrammarInThreads, state: GatedState
) -> None:
    assert grammar.is_ready([], [4, 5])
    assert [0, 1, 2] == rows(grammar.masks([], [4, 5]))
    assert [(0, (4, 5))] == state.jobs


def test_what_came_is_taken_in_once_by_the_round_or_by_the_next_job(
    grammar: StreamGrammarInThreads, state: GatedState
) -> None:
    masks = grammar.masks([], [4])
    assert [0, 1] == rows(masks)
    assert FORCED == masks.advance([4, 6], 1.0)
    assert [0] == rows(grammar.masks([4, 6], []))
    assert () == grammar.masks([4, 6], []).advance([7], 0.0)
    assert [0] == rows(grammar.masks([4, 6, 7], []))
    assert [(0, (4,)), (2, ()), (3, ())] == state.jobs


def test_late_masks_are_none_and_the_stream_waits_until_they_are_there(
    grammar: StreamGrammarInThreads, state: GatedState, woken: threading.Event
) -> None:
    state.gate.clear()
    masks = grammar.masks([], [4, 5])
    assert [] == rows(masks, 0.0)
    assert not grammar.is_ready([], [4, 5])
    assert not woken.is_set()
    state.gate.set()
    assert woken.wait(10)
    assert grammar.is_ready([], [4, 7])
    # Those that hold for other drafts too are not made again.
    assert [0, 1] == rows(grammar.masks([], [4, 7]))
    assert 1 == len(state.jobs)


def test_a_stream_that_lost_its_place_meanwhile_gets_the_masks_that_still_hold(
    grammar: StreamGrammarInThreads, state: GatedState
) -> None:
    state.gate.clear()
    assert [] == rows(grammar.masks([], [4, 5]), 0.0)
    again = grammar.masks([], [4])  # it has read its prompt again
    state.gate.set()
    assert [0, 1] == rows(again)
    assert 1 == len(state.jobs)


def test_the_masks_of_a_slow_grammar_are_made_before_its_round(
    grammar: StreamGrammarInThreads, state: GatedState, woken: threading.Event
) -> None:
    state.mask_seconds = 2 * SLOW_SECONDS
    assert [0] == rows(grammar.masks([], []))
    assert not grammar.is_ready([4], [5])
    assert woken.wait(10)
    assert grammar.is_ready([4], [5, 6])
    assert [0, 1] == rows(grammar.masks([4], [5, 6]), 0.0)
    state.mask_seconds = 0.0
    assert not grammar.is_ready([4, 5], [])
    until(lambda: grammar.is_ready([4, 5], []))
    assert grammar.is_ready([4, 5, 6], []), "it was quick once more"


def test_a_slow_grammar_keeps_no_quick_one_waiting(
    threads: MaskThreads, state: GatedState, woken: threading.Event
) -> None:
    slow_states = [GatedState() for _ in range(20)]
    for slow in slow_states:
        slow.mask_seconds = 2 * SLOW_SECONDS
        grammar = StreamGrammarInThreads(slow, threads, lambda: None)
        assert [0] == rows(grammar.masks([], []))
        slow.gate.clear()
        assert not grammar.is_ready([4], [])
    assert [0] == rows(StreamGrammarInThreads(state, threads, woken.set).masks([], []))
    for slow in slow_states:
        slow.gate.set()


def test_a_grammar_beyond_its_limits_is_told_and_makes_no_more_masks(
    grammar: StreamGrammarInThreads, state: GatedState
) -> None:
    state.breaks = True
    assert rows(grammar.masks([], [])) is None
    assert grammar.is_ready([], [])
    assert rows(grammar.masks([], [])) is None
    assert 1 == len(state.jobs)


def test_a_job_without_end_ends_its_stream(
    grammar: StreamGrammarInThreads, state: GatedState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_grammar, "MOST_JOB_SECONDS", 0.0)
    state.gate.clear()
    assert [] == rows(grammar.masks([], []), 0.0)
    assert grammar.is_ready([], [])
    assert rows(grammar.masks([], [])) is None
    state.gate.set()


def test_committed_output_that_is_not_of_the_grammar_is_seen(
    grammar: StreamGrammarInThreads, state: GatedState
) -> None:
    state.breaks = True
    assert not grammar.begin_behind([3])


def test_the_first_mask_is_there_before_the_first_round(
    grammar: StreamGrammarInThreads, state: GatedState, woken: threading.Event
) -> None:
    state.mask_seconds = 2 * SLOW_SECONDS
    assert grammar.begin_behind([1, 2])
    assert grammar.is_ready([1, 2], [])
    assert [0] == rows(grammar.masks([1, 2], [7]), 0.0)
    assert [(2, ())] == state.jobs
    assert not grammar.is_ready([1, 2, 3], []), "it is known to be slow"
    assert woken.wait(10)
