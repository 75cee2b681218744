"""What a slot has read, against a plain list: the slot, the stream's tokens, and a step in between.

Every token that a stream gets is another one here, so that tokens are equal where they are the same
and nowhere else: what the feed counts must be the part that slot and stream have in common.
"""

from __future__ import annotations

from itertools import count
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_agent.drafting.slot_feed import READY_WITHIN_TOKENS, SlotFeed


class Step(NamedTuple):
    num_kept: int
    tokens: list[int]
    draws_at: int | None


class SlotOfOneStream(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.feed = SlotFeed()
        self.tokens: list[int] = []  # the stream's
        self.slot: list[int] = []
        self.step: Step | None = None
        self.draw_is_right = False
        self._fresh = count()

    @rule(num_new=st.integers(1, 5))
    def the_stream_grows(self, num_new: int) -> None:
        self.tokens += [next(self._fresh) for _ in range(num_new)]

    @rule(data=st.data(), num_new=st.integers(0, 5))
    def the_stream_turns_out_otherwise(self, data: st.DataObject, num_new: int) -> None:
        num_right = data.draw(st.integers(0, len(self.tokens)))
        version = self.feed.version
        self.feed.keep(num_right)
        del self.tokens[num_right:]
        self.the_stream_grows(num_new)
        self.draw_is_right = False
        assert version != self.feed.version

    @precondition(lambda self: self.step is None and self.tokens)
    @rule(data=st.data(), draws=st.booleans())
    def a_step_begins(self, data: st.DataObject, draws: bool) -> None:
        num_pending = len(self.tokens) - self.feed.num_fed_tokens
        num_read = data.draw(st.integers(1, max(num_pending, 1)))
        draws_at = len(self.tokens) if draws and num_read >= num_pending else None
        num_kept = self.feed.begin_step(num_read, len(self.tokens), draws_at)
        assert num_kept <= self.feed.num_fed_tokens
        self.step = Step(num_kept, self.tokens[num_kept : num_kept + num_read], draws_at)
        self.draw_is_right = draws_at is not None
        assert num_read == len(self.step.tokens)
        if draws_at is not None:
            assert self.tokens == self.tokens[:num_kept] + self.step.tokens

    @precondition(lambda self: self.step is not None)
    @rule()
    def it_ends(self) -> None:
        assert self.step is not None
        self.slot = self.slot[: self.step.num_kept] + self.step.tokens
        self.feed.end_step()
        self.step, self.draw_is_right = None, False

    @precondition(lambda self: self.step is not None)
    @rule(data=st.data())
    def it_comes_to_nothing(self, data: st.DataObject) -> None:
        del self.slot[data.draw(st.integers(0, len(self.slot))) :]
        self.feed.restart(len(self.slot))
        self.step, self.draw_is_right = None, False

    @precondition(lambda self: self.step is not None)
    @rule()
    def the_slot_goes_to_another_stream(self) -> None:
        version = self.feed.version
        self.feed.abandon_step()
        self.draw_is_right = False
        assert version != self.feed.version

    @invariant()
    def what_counts_as_read_is_what_slot_and_stream_share(self) -> None:
        assert common_length(self.slot, self.tokens) == self.feed.num_fed_tokens

    @invariant()
    def what_will_count_is_what_they_will_share(self) -> None:
        if self.step is not None:
            coming = self.slot[: self.step.num_kept] + self.step.tokens
            shared = common_length(coming, self.tokens)
            assert shared == self.feed.num_feeding_tokens
            assert (shared < len(coming)) == self.feed.is_overtaken(len(coming))

    @invariant()
    def a_draw_runs_while_all_before_it_is_right(self) -> None:
        at = [position for position in range(len(self.tokens) + 1) if self.feed.draws(position)]
        expected = self.step.draws_at if self.step is not None and self.draw_is_right else None
        assert ([] if expected is None else [expected]) == at


def common_length(ours: list[int], theirs: list[int]) -> int:
    pairs = zip(ours, theirs, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))


TestSlotOfOneStream = SlotOfOneStream.TestCase
TestSlotOfOneStream.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)


def test_the_newest_token_is_read_again_where_a_draw_after_it_was_dropped() -> None:
    feed = SlotFeed()
    assert 0 == feed.begin_step(5, 5, draws_at=0)
    feed.end_step()
    assert (4, 5) == (feed.begin_step(1, 5, draws_at=0), feed.num_feeding_tokens)


def test_a_slot_that_holds_more_than_is_right_counts_what_is_right() -> None:
    feed = SlotFeed(num_fed_tokens=7, num_feeding_tokens=7)
    feed.restart(num_held=30)
    assert 7 == feed.num_fed_tokens


def test_a_slot_is_behind_when_more_than_one_small_batch_is_left_to_read() -> None:
    feed = SlotFeed(num_fed_tokens=20)
    assert 5 == feed.num_pending(25)
    assert not feed.is_behind(20 + READY_WITHIN_TOKENS, chunk_tokens=64)
    assert feed.is_behind(21 + READY_WITHIN_TOKENS, chunk_tokens=64)
    assert (False, True) == (feed.is_behind(23, chunk_tokens=3), feed.is_behind(24, chunk_tokens=3))
