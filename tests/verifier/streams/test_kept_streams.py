"""What a device finds again when it comes back, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.ends.planning import make_stream
from verifier.streams.kept_streams import EndedStream, KeptStream, KeptStreams, summarise
from verifier.streams.stream import Stream

GRACE_SECONDS = 10.0
MOST = 3


def stream_with(*output_ids: int, has_ended: bool = False) -> Stream:
    stream = make_stream()
    stream.take_up_again(output_ids)
    if has_ended:
        stream.end("length")
    return stream


def kept(
    stream_id: int, content: Stream | EndedStream, *, epoch: int = 1, now: float = 0.0
) -> KeptStream:
    return KeptStream(stream_id, epoch, now + GRACE_SECONDS, content)


def test_a_kept_stream_is_found_by_a_later_connection_alone() -> None:
    streams = KeptStreams(MOST)
    entry = kept(7, stream_with(20), epoch=2)
    assert [] == streams.keep(entry)
    assert [None, None, entry] == [streams.find(7, epoch) for epoch in (1, 2, 3)]
    assert streams.find(8, 3) is None


def test_a_stream_that_was_taken_is_not_found_again() -> None:
    streams = KeptStreams(MOST)
    entry = kept(7, stream_with(20))
    streams.keep(entry)
    streams.hand_over(entry)
    assert (None, None, 0) == (streams.find(7, 2), streams.next_expiry, streams.num_open)


def test_its_time_is_over_to_the_moment() -> None:
    streams = KeptStreams(MOST)
    first, second = stream_with(20), stream_with(21)
    streams.keep(kept(1, first, now=0.0))
    streams.keep(kept(2, second, now=3.0))
    assert ([], GRACE_SECONDS) == (streams.discard_expired(9.9), streams.next_expiry)
    assert ([first], 13.0) == (streams.discard_expired(10.0), streams.next_expiry)
    assert streams.find(1, 2) is None
    assert [second] == streams.discard_expired(99.0)


def test_when_there_are_too_many_the_longest_kept_one_goes() -> None:
    streams = KeptStreams(MOST)
    contents = [stream_with(20 + i) for i in range(MOST + 1)]
    gone = [streams.keep(kept(i, content)) for i, content in enumerate(contents)]
    assert [[], [], [], [contents[0]]] == gone
    assert (MOST, 0) == (streams.num_open, streams.num_ended)


def test_what_has_ended_makes_room_before_what_goes_on() -> None:
    streams = KeptStreams(MOST)
    streams.keep(kept(1, stream_with(20)))
    streams.keep(kept(2, summarise(stream_with(20, has_ended=True))))
    streams.keep(kept(3, summarise(stream_with(20, has_ended=True))))
    assert [] == streams.keep(kept(4, stream_with(20)))
    assert [True, False, True, True] == [streams.find(i, 9) is not None for i in (1, 2, 3, 4)]
    assert (2, 1) == (streams.num_open, streams.num_ended)


def test_of_two_with_one_name_the_later_one_is_kept() -> None:
    streams = KeptStreams(MOST)
    first, second = stream_with(20), stream_with(21)
    streams.keep(kept(7, first))
    assert [first] == streams.keep(kept(7, second))
    found = streams.find(7, 2)
    assert found is not None
    assert found.content is second


def test_a_failed_stream_is_forgotten_and_a_device_may_leave_for_good() -> None:
    streams = KeptStreams(MOST)
    first, second = stream_with(20), stream_with(21)
    streams.keep(kept(1, first))
    streams.keep(kept(2, second))
    streams.discard_stream(first)
    assert streams.find(1, 2) is None
    assert [second] == streams.discard_all()
    assert [] == streams.discard_all()


def test_an_ended_stream_is_kept_in_little_room_and_whole() -> None:
    stream = stream_with(20, 21, has_ended=True)
    entry = kept(7, summarise(stream))
    assert isinstance(entry.content, EndedStream)
    assert (stream.request.prompt_ids, (20, 21)) == (entry.prompt_ids, entry.output_ids)
    assert (stream.finish, False) == (entry.content.finish, entry.is_open)
    assert stream.request.seed == entry.content.request.seed


def test_what_has_ended_is_made_small_where_it_is_and_what_goes_on_is_not() -> None:
    streams = KeptStreams(MOST)
    ended = stream_with(20, 21, has_ended=True)
    for stream_id, content in ((1, ended), (2, stream_with(20))):
        streams.keep(kept(stream_id, content))
    # Seven tokens once; then there is nothing more to make small, nor of the others.
    assert [7, 0, 0, 0] == [streams.summarise(stream_id) for stream_id in (1, 1, 2, 3)]
    found, other = streams.find(1, 2), streams.find(2, 2)
    assert found == kept(1, summarise(ended))
    assert other is not None
    assert other.is_open


def test_a_parked_stream_that_ended_meanwhile_cannot_go_on() -> None:
    assert not kept(7, stream_with(20, has_ended=True)).is_open


@pytest.mark.parametrize(
    ("prompt_ids", "committed", "expected"),
    [
        ((), (), True),
        ((), (20,), True),
        ((), (20, 21), True),
        ((), (20, 21, 22), False),
        ((), (21,), False),
        ((11, 12, 13, 14, 15), (20,), True),
        ((11, 12, 13, 14), (20,), False),
    ],
)
def test_a_board_means_the_stream_that_goes_on_from_what_it_has(
    prompt_ids: tuple[int, ...], committed: tuple[int, ...], expected: bool
) -> None:
    assert expected == kept(7, stream_with(20, 21)).goes_on_from(prompt_ids, committed)


class ManyKept(RuleBasedStateMachine):
    """Whatever happens: none is both kept and let go of, none is lost, few are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.streams = KeptStreams(MOST)
        self.now = 0.0
        self.held: dict[int, KeptStream] = {}  # by stream id

    def let_go(self, gone: list[Stream]) -> None:
        assert len({id(stream) for stream in gone}) == len(gone)
        names = [id_ for id_, entry in self.held.items() if entry.content in gone]
        assert len(names) == len(gone), "a stream was let go of that was not kept"
        for name in names:
            del self.held[name]

    @rule(stream_id=st.integers(0, 5), has_ended=st.booleans())
    def keep(self, stream_id: int, has_ended: bool) -> None:
        stream = stream_with(20, has_ended=has_ended)
        entry = kept(stream_id, summarise(stream) if has_ended else stream, now=self.now)
        gone = self.streams.keep(entry)
        self.let_go(gone)
        self.held.pop(stream_id, None)
        self.held[stream_id] = entry
        # Those that have ended go without a word: there is nothing to let go of.
        for name, other in tuple(self.held.items()):
            if not other.is_open and self.streams.find(name, 9) is None:
                del self.held[name]

    @rule(stream_id=st.integers(0, 5))
    def take(self, stream_id: int) -> None:
        entry = self.streams.find(stream_id, 9)
        assert self.held.get(stream_id) is entry
        if entry is not None:
            self.streams.hand_over(entry)
            del self.held[stream_id]

    @rule(seconds=st.floats(0, GRACE_SECONDS))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        over = {id_ for id_, entry in self.held.items() if entry.expires_at <= self.now}
        gone = self.streams.discard_expired(self.now)
        assert [e.content for i, e in self.held.items() if i in over and e.is_open] == gone
        self.held = {id_: entry for id_, entry in self.held.items() if id_ not in over}

    @invariant()
    def few_are_kept_and_none_is_lost(self) -> None:
        assert len(self.held) <= MOST
        for stream_id, entry in self.held.items():
            assert self.streams.find(stream_id, 9) is entry
        num_open = sum(entry.is_open for entry in self.held.values())
        counts = (self.streams.num_open, self.streams.num_ended)
        assert (num_open, len(self.held) - num_open) == counts
        expiries = [entry.expires_at for entry in self.held.values()]
        assert min(expiries, default=None) == self.streams.next_expiry


TestManyKept = ManyKept.TestCase
TestManyKept.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
