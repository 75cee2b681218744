"""Whose turn it is among the drafts that a board holds."""

from __future__ import annotations

import pytest

from edge_agent.draft_model.shared_vocabulary import SharedVocabulary
from edge_agent.drafting.loop import DraftingLoop
from edge_agent.drafting.stream import AgentStream
from edge_agent.generation.held_drafts import OWN, HeldDraft, HeldDrafts
from shared.speculation.sampling import SamplingParameters
from tests.support.ends.loopback import DRAFT_SETTINGS
from tests.support.ends.scripted import board


def shared(context_tokens: int = 2048) -> SharedVocabulary:
    drafter = board()
    drafter.context_tokens = context_tokens
    return SharedVocabulary(drafter)


def loop(drafter: SharedVocabulary) -> DraftingLoop:
    return DraftingLoop(drafter, lambda stream, message: None)


@pytest.fixture
def held() -> HeldDrafts:
    drafter = shared()
    return HeldDrafts(HeldDraft(OWN, drafter, DRAFT_SETTINGS, loop(drafter)))


def hold(held: HeldDrafts, sha256: bytes, context_tokens: int = 2048) -> HeldDraft:
    drafter = shared(context_tokens)
    return held.hold(sha256, drafter, loop(drafter))


def begin(held: HeldDrafts, *, drafts: bool = True) -> tuple[AgentStream, HeldDraft]:
    chosen = held.next()
    stream = AgentStream(0, 64, chosen.settings, SamplingParameters(), drafts)
    held.begin(chosen, stream)
    return stream, chosen


def test_without_an_assignment_its_own_is_used(held: HeldDrafts) -> None:
    hold(held, b"a")
    assert held.own is begin(held)[1]


def test_new_streams_take_them_in_turn_over_and_over(held: HeldDrafts) -> None:
    first, second = hold(held, b"a"), hold(held, b"b")
    held.take_turns((OWN, b"a", b"b", b"a"))
    chosen = [begin(held)[1] for _ in range(6)]
    assert [held.own, first, second, first, held.own, first] == chosen
    held.take_turns((OWN, b"a", b"b", b"a"))
    assert second is held.next(), "the same said again begins nothing anew"


def test_what_is_not_here_yet_is_passed_over(held: HeldDrafts) -> None:
    held.take_turns((b"a", OWN))
    assert [held.own, held.own] == [begin(held)[1] for _ in range(2)]
    held.take_turns((b"a",))
    assert held.own is held.next()
    first = hold(held, b"a")
    assert first is held.next()


def test_a_stream_keeps_its_draft_whatever_comes(held: HeldDrafts) -> None:
    first = hold(held, b"a", context_tokens=100)
    held.take_turns((b"a",))
    stream, chosen = begin(held)
    assert (first, 100) == (chosen, stream.settings.context_tokens)
    held.take_turns(())
    with pytest.raises(AssertionError, match="a stream keeps its draft"):
        held.let_go(b"a")
    assert first is held.end(stream)
    assert None is held.end(stream)
    held.let_go(b"a")
    assert {} == held.assigned


def test_a_stream_without_drafts_takes_part_in_no_loop(held: HeldDrafts) -> None:
    stream, _ = begin(held, drafts=False)
    assert None is held.end(stream)


def test_numbers_are_never_used_twice(held: HeldDrafts) -> None:
    numbers = []
    for sha256 in (b"a", b"b"):
        numbers.append(hold(held, sha256).loop.draft_number)
        held.let_go(sha256)
    assert [1, 2] == numbers
    assert 0 == held.own.loop.draft_number


def test_the_loop_that_computes_longest_is_watched(held: HeldDrafts) -> None:
    first = hold(held, b"a")
    assert None is held.computing_since
    held.own.loop.computing_since, first.loop.computing_since = 5.0, 3.0
    assert 3.0 == held.computing_since


def test_all_learn_what_ids_mean_to_the_verifier(held: HeldDrafts) -> None:
    first = hold(held, b"a")
    held.own.drafter.take_vocabulary(held.own.drafter.token_bytes[:-1])
    held.learn_vocabulary()
    assert held.own.drafter.token_bytes is first.drafter.token_bytes
    assert 1 == first.drafter.num_lacked
