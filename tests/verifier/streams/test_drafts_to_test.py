"""Which of a stream's drafts a round tests, and what the target is asked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.draft_path import DraftPath, DraftToken
from shared.protocol.messages import AcceptanceMode
from tests.support.ends.planning import ROW, make_stream
from verifier.streams.drafts_to_test import (
    draft_check,
    drafts_to_test,
    has_its_masks,
    num_drafts_to_test,
)
from verifier.streams.stream import Stream

G, R, E = DraftToken(30), DraftToken(31, ROW), DraftToken(32, ROW, ends_chunk=True)


@pytest.mark.parametrize(
    ("mode", "live", "most", "num_tested", "draws_bonus"),
    [
        ("coupled", (), 9, 0, True),
        ("coupled", (G, G, G), 9, 3, True),
        ("coupled", (G, G, G), 2, 2, True),
        ("coupled", (G, G, G), 0, 0, True),
        ("rejection", (), 9, 0, True),
        ("rejection", (R, R, E), 9, 3, True),
        ("rejection", (R, R, E), 2, 2, False),
        ("rejection", (R, R, E), 3, 3, True),
        ("rejection", (R, R, E), 0, 0, False),
        ("rejection", (E, G, R, E), 9, 1, True),  # the bonus comes before the next chunk
        ("rejection", (E, R, E), 9, 1, True),  # even if its guess was left out
        ("rejection", (G, R, E), 9, 0, True),  # a guess is compared, not tested
    ],
)
def test_what_is_tested(
    mode: AcceptanceMode,
    live: tuple[DraftToken, ...],
    most: int,
    num_tested: int,
    draws_bonus: bool,
) -> None:
    stream = make_stream(mode=mode)
    stream.take_up_again((20, 21, 22))
    stream.path = DraftPath(base=3, position=3, end=3 + len(live), live=live)
    assert (live[:num_tested], draws_bonus) == drafts_to_test(stream, most)


@given(
    mode=st.sampled_from(["coupled", "rejection"]),
    live=st.lists(st.sampled_from([G, R, E]), max_size=6),
    position=st.integers(0, 19),
)
def test_as_many_can_be_tested_as_are_where_there_is_room(
    mode: AcceptanceMode, live: list[DraftToken], position: int
) -> None:
    stream = make_stream(mode=mode)
    stream.take_up_again((20,) * position)
    end = position + len(live)
    stream.path = DraftPath(base=position, position=position, end=end, live=tuple(live))
    tested, _ = drafts_to_test(stream, 64)
    assert len(tested) == num_drafts_to_test(stream) <= max(19 - position, 0)


def test_drafts_leave_room_for_the_targets_last_token() -> None:
    stream = make_stream()
    stream.take_up_again((20,) * 17)
    stream.path = DraftPath(base=17, position=17, end=21, live=(G, G, G, G))
    tested, draws_bonus = drafts_to_test(stream, 64)
    assert (2, True) == (len(tested), draws_bonus)


def test_what_the_target_is_asked() -> None:
    stream = make_stream(mode="rejection")
    stream.take_up_again((20, 21, 22))
    stream.path = DraftPath(base=3, position=3, end=5, live=(R, E))
    check = draft_check(stream, *drafts_to_test(stream, 1))
    assert ((31,), (ROW,), "rejection", 7, 3, False) == (
        check.draft_token_ids,
        check.rows,
        check.mode,
        check.seed,
        check.position,
        check.draws_bonus,
    )
    assert stream.request.sampling == check.sampling


class AnyMasks:
    """Implements `StreamGrammar` and its masks: it only remembers what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, tuple[int, ...]]] = []
        self.ready, self.quick = True, False

    def masks(self, output_ids: Sequence[int], draft_token_ids: Sequence[int]) -> AnyMasks:
        self.asked.append((len(output_ids), tuple(draft_token_ids)))
        return self

    @property
    def is_quick(self) -> bool:
        return self.quick

    def is_ready(self, output_ids: Sequence[int], draft_token_ids: Sequence[int]) -> bool:
        return self.ready

    def begin(self) -> None:
        """They are there."""

    def wait(self, deadline: float) -> None:
        raise AssertionError("no target runs here")

    def advance(self, token_ids: Sequence[int], seconds: float) -> tuple[int, ...]:
        raise AssertionError("no target runs here")


def forced_stream(mode: AcceptanceMode, live: tuple[DraftToken, ...], *forced: int) -> Stream:
    stream = make_stream(mode=mode)
    stream.grammar = AnyMasks()
    stream.take_up_again((20, 21, 22))
    stream.path = DraftPath(base=3, position=3, end=3 + len(live), live=live)
    stream.forced_ids = forced
    return stream


@pytest.mark.parametrize(
    ("mode", "live", "forced", "tested", "num_forced"),
    [
        ("coupled", (), (5, 6), (5, 6), 2),
        ("coupled", (G,), (30, 6), (30, 6), 1),  # the board was right as far as it came
        ("coupled", (G, G, G), (30, 30), (30, 30, 30), 0),
        ("coupled", (G, G), (5, 6), (5, 6), 2),  # what it drafted cannot come
        ("rejection", (), (5, 6), (5, 6), 2),
        ("rejection", (R, E), (5, 6), (31, 32), 0),  # what was drafted must be tested
    ],
)
def test_what_a_grammar_forces_is_tested_where_the_board_has_nothing_that_fits(
    mode: AcceptanceMode,
    live: tuple[DraftToken, ...],
    forced: tuple[int, ...],
    tested: tuple[int, ...],
    num_forced: int,
) -> None:
    stream = forced_stream(mode, live, *forced)
    check = draft_check(stream, *drafts_to_test(stream, 64))
    assert (tested, num_forced) == (check.draft_token_ids, check.num_forced)
    assert len(tested) == num_drafts_to_test(stream)
    assert stream.grammar is check.masks
    assert [(3, tested)] == stream.grammar.asked  # type: ignore[union-attr]
    if mode == "rejection":
        assert len(tested) == len(check.rows)
        expected = [1.0] * num_forced or [row.prob_of(31) for row in check.rows]
        probs = zip(check.rows, check.draft_token_ids, strict=True)
        assert expected[:num_forced] == [row.prob_of(i) for row, i in probs][:num_forced]


def test_as_many_forced_tokens_are_tested_as_there_is_room_for() -> None:
    stream = forced_stream("coupled", (), *range(5, 15))
    assert 4 == len(drafts_to_test(stream, 4)[0])
    check = draft_check(stream, *drafts_to_test(stream, 4))
    assert ((5, 6, 7, 8), 4) == (check.draft_token_ids, check.num_forced)


def test_a_stream_waits_for_its_masks_only_when_it_is_to_draw() -> None:
    stream = forced_stream("coupled", ())
    assert isinstance(stream.grammar, AnyMasks)
    stream.grammar.ready = False
    assert has_its_masks(stream), "it reads its prompt"
    stream.num_cached_tokens = stream.num_tokens - 1
    assert not has_its_masks(stream)
    stream.grammar.ready = True
    assert has_its_masks(stream)
    stream.grammar = None
    assert has_its_masks(stream)
