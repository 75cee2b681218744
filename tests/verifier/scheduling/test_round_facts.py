"""What a round shows is of the streams that write in it."""

from __future__ import annotations

from tests.support.ends.planning import make_stream
from verifier.scheduling.round_facts import round_facts
from verifier.streams.settled import Settled
from verifier.streams.stream import Stream


def writing(number: int, device: str, *, window: int = 0, **request: object) -> Stream:
    """A stream whose prompt the target has read, but for its newest token."""
    stream = make_stream(number, device=device, **request)
    stream.num_cached_tokens = stream.num_tokens - 1
    stream.window = window
    return stream


def test_streams_that_read_their_prompts_write_nothing_yet() -> None:
    streams = [writing(1, "a"), make_stream(2, device="b"), writing(3, "a")]
    facts = round_facts(0.1, streams, [], reads_prompts=True)
    assert (2, frozenset({"a"}), True) == (facts.num_streams, facts.devices, facts.reads_prompts)
    assert frozenset({"b"}) == facts.reading_devices


def test_tokens_are_those_that_were_committed_and_drafts_those_that_were_tested() -> None:
    first, second = writing(1, "a"), writing(2, "b")
    settled = [(first, Settled(0, 2, (7,), 3)), (second, Settled(0, 0, (7,), 0))]
    facts = round_facts(0.1, [first, second], settled, reads_prompts=False)
    assert (4, frozenset({"a"})) == (facts.num_tokens, facts.drafting_devices)


def test_a_length_that_a_request_fixes_is_not_the_verifiers_to_say() -> None:
    fixed = writing(1, "a", draft_length=4, window=5)
    facts = round_facts(0.1, [fixed], [], reads_prompts=False)
    assert (False, True) == (facts.may_draft, facts.has_windows)
    both = round_facts(0.1, [fixed, writing(2, "b")], [], reads_prompts=False)
    assert both.may_draft
