"""One stream at the verifier: what it takes in, what it asks of a round, when it ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RemoteProtocolError
from shared.protocol.draft_path import DraftPath, Extension
from shared.protocol.messages import AcceptanceMode, Finish, FinishReason
from shared.protocol.text import ByteAssembler
from shared.speculation.logit_processors import LogitProcessors
from tests.support.ends.planning import (
    END_ID,
    TOKEN_BYTES,
    chunk,
    draft,
    live_ids,
    make_stream,
    send,
)
from verifier.streams.acceptance_estimate import INITIAL_ACCEPTANCE_RATE
from verifier.streams.drafts_to_test import draft_check, drafts_to_test
from verifier.streams.settled import Settled
from verifier.streams.stream import Stream
from verifier.target.round import DraftCheck, ItemOutcome


def running(position: int = 3, window: int = 8, **request: object) -> Stream:
    """A stream that has said 20, 21, … and whose board was just granted a window at time 0."""
    stream = make_stream(**request)  # type: ignore[arg-type]
    stream.take_up_again(tuple(range(20, 20 + position)))
    stream.num_cached_tokens = stream.num_tokens - 1
    stream.board_is_ready = True
    stream.grant(min(window, 4), window, now=0.0)
    return stream


def word(token_id: int) -> str:
    return TOKEN_BYTES[token_id].decode()


def settle(stream: Stream, num_accepted: int, token_id: int | None, most: int = 64) -> Settled:
    """Let a round test up to `most` live tokens with this outcome."""
    tested, draws_bonus = drafts_to_test(stream, most)
    check = draft_check(stream, tested, draws_bonus)
    accept_probs = (0.5,) * len(check.rows)
    return settled(stream, check, ItemOutcome(num_accepted, token_id, accept_probs))


def settled(stream: Stream, check: DraftCheck, outcome: ItemOutcome) -> Settled:
    """What a round that drew something did."""
    told = stream.settle(1, check, outcome)
    assert told is not None
    return told


# --- drafts ---------------------------------------------------------------------------------------


def test_a_draft_makes_its_tokens_live_and_the_board_ready() -> None:
    stream = running()
    stream.board_is_ready = False
    draft(stream, 31, 32)
    assert ([31, 32], True) == (live_ids(stream), stream.board_is_ready)


def test_a_draft_beyond_the_window_is_an_error() -> None:
    stream = running(position=3, window=2)
    with pytest.raises(RemoteProtocolError, match="up to 6 exceeds the window, which ends at 5"):
        draft(stream, 31, 32, 33)


def test_a_window_that_shrank_still_admits_what_was_drafted_before() -> None:
    stream = running(position=3, window=8)
    stream.grant(1, 1, now=0.0)
    draft(stream, *range(31, 39))
    assert 8 == len(stream.path.live)


def test_a_draft_of_a_dead_path_changes_nothing_but_the_boards_speed() -> None:
    stream = running(position=3)
    draft(stream, 31, 32)
    settle(stream, 0, 40)
    path = stream.path
    late = Extension(base=3, position=5, tokens=chunk(33, has_rows=False))
    stream.receive_draft(late, 0.25, now=1.0)
    assert stream.path is path
    # The first draft took no time; one sample moves the estimate by a tenth.
    assert 0.025 == pytest.approx(stream.estimates.speed.draft_token_seconds)


def test_the_same_draft_twice_teaches_once() -> None:
    stream = running(position=3)
    send(stream, chunk(31, 32, has_rows=False), drafting_seconds=0.2)
    speed = stream.estimates.speed.draft_token_seconds
    send(stream, chunk(31, 32, has_rows=False), position=3, drafting_seconds=9.0)
    assert ([31, 32], speed) == (live_ids(stream), stream.estimates.speed.draft_token_seconds)


def test_the_first_draft_of_a_path_shows_the_round_trip() -> None:
    stream = running(position=3)  # granted at 0
    send(stream, chunk(31, 32, has_rows=False), now=0.5, drafting_seconds=0.2)
    assert 0.3 == pytest.approx(stream.estimates.speed.round_trip_seconds)
    send(stream, chunk(33, has_rows=False), now=9.0, drafting_seconds=0.1)
    assert 0.3 == pytest.approx(stream.estimates.speed.round_trip_seconds)


def test_a_round_trip_is_never_negative() -> None:
    stream = running(position=3)
    send(stream, chunk(31, has_rows=False), now=0.1, drafting_seconds=0.2)
    assert 0.0 == stream.estimates.speed.round_trip_seconds


def test_a_first_draft_shows_the_round_trip_however_late_it_comes() -> None:
    stream = running(position=3)
    settle(stream, 0, 31)
    stream.grant(2, 4, now=4.0)  # of the same path: the board had its window before
    send(stream, chunk(31, 32, has_rows=False), now=5.0, position=3)
    assert 5.0 == stream.estimates.speed.round_trip_seconds


def test_after_a_path_that_came_dead_the_round_trip_counts_from_the_latest_verdict() -> None:
    stream = running(position=3)  # granted at 0
    settle(stream, 0, 31)
    stream.grant(2, 4, now=4.0)
    send(stream, chunk(32, has_rows=False), position=3, now=0.3)
    assert (4, 0.3) == (stream.path.base, stream.estimates.speed.round_trip_seconds)
    fresh = Extension(base=4, position=4, tokens=chunk(41, has_rows=False))
    stream.receive_draft(fresh, 0.0, now=4.3)
    assert 0.3 == pytest.approx(stream.estimates.speed.round_trip_seconds)


@pytest.mark.parametrize(
    ("drafted", "expected_live", "num_accepted", "num_rejected"),
    [
        ((40, 41), [], 2, 0),
        ((40, 41, 50), [50], 2, 0),
        ((40, 99), [], 1, 1),
        ((99, 41, 50), [], 0, 1),
    ],
)
def test_late_tokens_meet_what_was_committed_and_teach_the_acceptance_rate(
    drafted: tuple[int, ...], expected_live: list[int], num_accepted: int, num_rejected: int
) -> None:
    stream = running(position=3)
    settle(stream, 0, 40)
    settle(stream, 0, 41)
    draft(stream, *drafted, position=3)
    positions = stream.device_estimates.positions
    assert expected_live == live_ids(stream)
    assert [1] * (num_accepted + num_rejected) == positions.reached
    assert num_accepted == sum(positions.accepted)
    assert (
        stream.estimates.acceptance.rate
        == stream.device_estimates.acceptance.rate
        != INITIAL_ACCEPTANCE_RATE
    )


def test_late_tokens_of_a_rejection_draft_teach_nothing() -> None:
    stream = running(mode="rejection")
    settle(stream, 0, 40)  # after a timeout
    draft(stream, 40, 41, position=3)
    assert [41] == live_ids(stream)
    assert INITIAL_ACCEPTANCE_RATE == stream.estimates.acceptance.rate
    assert [] == stream.device_estimates.positions.reached


# --- waiting --------------------------------------------------------------------------------------


def test_a_rejection_stream_waits_from_the_grant_to_the_draft() -> None:
    stream = running(mode="rejection", window=0)
    assert not stream.waits_for_board
    stream.grant(4, 8, now=0.0)
    assert stream.waits_for_board
    draft(stream, 31)
    assert (False, True) == (stream.waits_for_board, stream.must_be_tested)


def test_a_rejection_stream_does_not_wait_after_a_pass_for_that_position() -> None:
    stream = running(mode="rejection")
    send(stream, ())
    assert not stream.waits_for_board
    settle(stream, 0, 40)
    stream.grant(4, 8, now=1.0)
    assert stream.waits_for_board


def test_a_rejection_stream_does_not_wait_for_a_board_that_is_not_ready() -> None:
    stream = running(mode="rejection")
    stream.board_is_ready = False
    assert not stream.waits_for_board


def test_a_coupled_stream_never_waits() -> None:
    stream = running()
    assert not stream.waits_for_board
    draft(stream, 31)
    assert not stream.must_be_tested


@pytest.mark.parametrize(
    ("is_ready", "draft_length", "draft_context_tokens", "expected"),
    [
        (True, None, 1000, True),
        (True, 3, 1000, True),
        (False, None, 1000, False),
        (True, 0, 1000, False),
        (True, None, 8, False),  # the prompt has 5 tokens, the output 3
        (True, None, 9, True),
    ],
)
def test_who_can_draft(
    is_ready: bool, draft_length: int | None, draft_context_tokens: int, expected: bool
) -> None:
    stream = running(
        position=3, draft_length=draft_length, draft_context_tokens=draft_context_tokens
    )
    stream.board_is_ready = is_ready
    assert expected == stream.can_draft


# --- what a round gets ----------------------------------------------------------------------------


@given(num_cached=st.integers(0, 7), num_tokens=st.integers(0, 8))
def test_tokens_follow_those_in_the_cache(num_cached: int, num_tokens: int) -> None:
    stream = running(position=3)
    stream.num_cached_tokens = num_cached
    known = (11, 12, 13, 14, 15, 20, 21, 22)
    expected = known[num_cached : num_cached + num_tokens]
    assert expected == stream.tokens(num_cached, num_cached + num_tokens)


# --- what a round did -----------------------------------------------------------------------------


def test_accepted_tokens_and_the_targets_own_are_committed() -> None:
    stream = running(position=3)
    draft(stream, 31, 32, 33)
    settled = settle(stream, 2, 40)
    assert Settled(position=3, num_accepted=2, own_token_ids=(40,), num_tested=3) == settled
    assert [20, 21, 22, 31, 32, 40] == stream.output_ids
    assert (1, []) == (stream.num_pending_tokens, live_ids(stream))
    assert 6 == stream.path.base


def test_drafts_that_came_during_the_round_stay_live_behind_a_bonus_that_fits() -> None:
    stream = running(position=3)
    draft(stream, 31, 32)
    tested = drafts_to_test(stream, 64)
    draft(stream, 33, 34)
    stream.settle(1, draft_check(stream, *tested), ItemOutcome(2, 33))
    assert ([34], 1) == (live_ids(stream), stream.num_pending_tokens)


def test_after_a_cut_chunk_the_last_accepted_token_is_read_again() -> None:
    stream = running(mode="rejection", position=3)
    draft(stream, 31, 32, 33)
    settled = settle(stream, 2, None, most=2)
    assert Settled(position=3, num_accepted=2, own_token_ids=(), num_tested=2) == settled
    assert ([33], 1) == (live_ids(stream), stream.num_pending_tokens)
    assert (32,) == stream.tokens(stream.num_cached_tokens, stream.num_tokens)


def test_a_prompt_counts_as_read_with_its_first_token() -> None:
    stream = make_stream()
    check = draft_check(stream, *drafts_to_test(stream, 64))
    stream.settle(5, check, ItemOutcome(0, 40))
    assert (5, 1) == (stream.num_cached_tokens, stream.num_pending_tokens)


@pytest.mark.parametrize(
    ("drafted", "num_accepted", "own", "expected", "reason"),
    [
        ((31, END_ID, 33), 3, 40, Settled(3, 2, (), 3), "end"),
        ((31, 32), 2, END_ID, Settled(3, 2, (END_ID,), 2), "end"),
        ((31, 32), 0, END_ID, Settled(3, 0, (END_ID,), 2), "end"),
        ((61, 62, 63), 3, 40, Settled(3, 2, (), 3), "stop"),
        ((31, 61), 2, 62, Settled(3, 2, (62,), 2), "stop"),
        ((31, 61), 2, 40, Settled(3, 2, (40,), 2), None),
    ],
)
def test_nothing_is_committed_behind_the_end(
    drafted: tuple[int, ...],
    num_accepted: int,
    own: int,
    expected: Settled,
    reason: FinishReason | None,
) -> None:
    stream = running(position=3, stop=(word(61) + word(62)[:2],))
    draft(stream, *drafted)
    assert expected == settle(stream, num_accepted, own)
    assert 3 + expected.num_accepted + len(expected.own_token_ids) == stream.position
    assert reason == (stream.finish.reason if stream.finish else None)
    assert stream.path.position == stream.position


def test_the_text_ends_before_the_stop_string() -> None:
    stream = running(position=0, window=8, stop=(word(62),))
    draft(stream, 61, 62)
    settle(stream, 2, 40)
    assert Finish("stop", len(word(61).encode())) == stream.finish


@pytest.mark.parametrize(("ends_at_context", "reason"), [(False, "length"), (True, "context")])
def test_the_last_token_names_the_limit(ends_at_context: bool, reason: FinishReason) -> None:
    stream = running(position=3, max_output_tokens=6, ends_at_context=ends_at_context)
    draft(stream, 31, 32)
    assert Settled(3, 2, (40,), 2) == settle(stream, 2, 40)
    assert stream.finish is not None
    assert reason == stream.finish.reason


@pytest.mark.parametrize(
    ("last_id", "max_output_tokens", "finish"),
    [
        (1, 2, Finish("length", 1)),  # the limit is inside the character
        (1, 20, Finish("cancelled", 1)),
        (END_ID, 20, Finish("end", 4)),  # the target itself broke it off
        (2, 2, Finish("length", 5)),
    ],
)
def test_a_character_that_is_cut_in_two_does_not_count(
    last_id: int, max_output_tokens: int, finish: Finish
) -> None:
    stream = make_stream(max_output_tokens=max_output_tokens)
    token_bytes = [b"", b"", b"\x80", b"a\xf0\x9f\x98"]
    stream.text = ByteAssembler(token_bytes, frozenset({END_ID}))
    stream.take_up_again((3, last_id))
    if stream.finish is None:
        stream.end("cancelled")
    assert finish == stream.finish


def test_an_end_token_at_the_limit_is_an_end() -> None:
    stream = running(position=5, max_output_tokens=6)
    settle(stream, 0, END_ID)
    assert Finish("end", stream.text.num_bytes) == stream.finish


# --- what a round taught --------------------------------------------------------------------------


def test_counts_teach_a_coupled_stream_and_its_device() -> None:
    stream = running(position=3)
    draft(stream, 31, 32, 33)
    settle(stream, 1, 40)
    for acceptance in (stream.estimates.acceptance, stream.device_estimates.acceptance):
        assert INITIAL_ACCEPTANCE_RATE != acceptance.rate
    positions = stream.device_estimates.positions
    assert ([1, 1], [1, 0]) == (positions.reached, positions.accepted)


def test_probabilities_teach_a_rejection_stream_and_its_device() -> None:
    stream = running(mode="rejection")
    draft(stream, 31, 32, 33)
    before = stream.estimates.acceptance.rate
    settle(stream, 1, 40)
    for acceptance in (stream.estimates.acceptance, stream.device_estimates.acceptance):
        assert 0.5 < acceptance.rate < before
    positions = stream.device_estimates.positions
    assert ([1, 1], [1, 0]) == (positions.reached, positions.accepted)


def test_a_token_of_the_target_alone_teaches_nothing() -> None:
    stream = running()
    settle(stream, 0, 40)
    assert INITIAL_ACCEPTANCE_RATE == stream.estimates.acceptance.rate
    assert [] == stream.device_estimates.positions.reached


# --- grants and new beginnings --------------------------------------------------------------------


def test_the_furthest_end_granted_never_shrinks() -> None:
    stream = running(position=3, window=8)
    stream.grant(2, 3, now=1.0)
    assert (2, 3, 11, 1.0) == (
        stream.draft_length,
        stream.window,
        stream.granted_end,
        stream.waiting_since,
    )


@pytest.mark.parametrize(("mode", "survives"), [("coupled", True), ("rejection", False)])
def test_without_a_window_a_rejection_path_starts_over(
    mode: AcceptanceMode, survives: bool
) -> None:
    stream = running(mode=mode, position=3)
    draft(stream, 31, 32)
    stream.grant(0, 0, now=1.0)
    assert ([31, 32] if survives else []) == live_ids(stream)
    assert (3 if survives else 4) == stream.path.base


def test_a_second_verdict_without_a_window_does_not_start_over_again() -> None:
    stream = running(mode="rejection", position=3)
    stream.grant(0, 0, now=1.0)
    path = stream.path
    stream.grant(0, 0, now=2.0)
    assert path is stream.path


def test_a_stream_is_taken_up_from_what_was_committed_before() -> None:
    stream = make_stream(max_output_tokens=4)
    stream.take_up_again((40, 41))
    assert ([40, 41], 7, None) == (stream.output_ids, stream.num_pending_tokens, stream.finish)
    assert DraftPath(base=2, position=2, end=2) == stream.path


def test_a_stream_that_had_ended_ends_again() -> None:
    stream = make_stream(max_output_tokens=2)
    stream.take_up_again((40, 41))
    assert Finish("length", len((word(40) + word(41)).encode())) == stream.finish


def test_two_streams_are_never_equal() -> None:
    assert make_stream(1) != make_stream(1)


# --- a board that is back -------------------------------------------------------------------------


def test_a_board_that_is_back_is_told_what_it_lacks_and_drafts_on_another_path() -> None:
    stream = running(position=3)
    draft(stream, 31, 32)
    assert (21, 22) == stream.attach(num_known=1, draft_context_tokens=1000)
    assert DraftPath(base=1, position=3, end=1) == stream.path
    assert (0, 0, False) == (stream.window, stream.draft_length, stream.board_is_ready)
    stream.board_is_ready = True
    stream.grant(2, 2, now=0.0)
    draft(stream, 41, 42)
    assert [41, 42] == live_ids(stream)


def test_what_was_granted_before_is_granted_no_more() -> None:
    stream = running(position=3, window=8)
    stream.attach(num_known=3, draft_context_tokens=1000)
    with pytest.raises(RemoteProtocolError, match="exceeds the window, which ends at 3"):
        draft(stream, 31)


def test_a_stream_does_not_wait_for_a_board_that_has_just_come_back() -> None:
    stream = running(mode="rejection")
    assert stream.waits_for_board
    stream.attach(num_known=0, draft_context_tokens=1000)
    assert not stream.waits_for_board


def test_a_board_may_come_back_with_another_draft_model() -> None:
    stream = running(position=3)
    stream.attach(num_known=3, draft_context_tokens=9)
    assert 1 == stream.draft_room


@given(
    accepted=st.integers(0, 3),
    num_known=st.integers(0, 3),
    mode=st.sampled_from(["coupled", "rejection"]),
)
def test_what_a_board_is_told_makes_a_whole(
    accepted: int, num_known: int, mode: AcceptanceMode
) -> None:
    """Whatever it had heard of before, in the middle of a round: no gap and no repetition."""
    stream = running(position=3, mode=mode)
    draft(stream, 31, 32, 33)
    tested, draws_bonus = drafts_to_test(stream, 64)
    check = draft_check(stream, tested, draws_bonus)
    heard = [20, 21, 22][:num_known]
    heard += stream.attach(num_known, draft_context_tokens=1000)
    assert 3 == len(heard)
    settled = stream.settle(1, check, ItemOutcome(accepted, 40, (0.5,) * len(check.rows)))
    assert (3, 0) == (settled.position, settled.num_accepted)
    heard += settled.own_token_ids
    assert stream.output_ids == heard


# --- penalties and stop tokens --------------------------------------------------------------------


def test_a_stop_token_ends_the_stream_and_is_no_part_of_its_text() -> None:
    stream = running(position=2, processors=LogitProcessors(stop_token_ids=(40, 41)))
    settle(stream, 0, 41)
    assert [20, 21, 41] == stream.output_ids
    assert Finish("stop", len(word(20) + word(21))) == stream.finish


def test_a_check_counts_what_was_written_where_penalties_ask() -> None:
    stream = running(position=3, processors=LogitProcessors(frequency_penalty=1.0))
    settle(stream, 0, 21)
    draft(stream, 21, 50)
    seen = draft_check(stream, *drafts_to_test(stream, 64)).seen
    assert seen is not None
    assert ([20, 21, 22], [1, 2, 1]) == (seen.token_ids.tolist(), seen.num_written.tolist())
    assert [1, 3] == seen.draft_places.tolist()


def test_a_repetition_penalty_looks_at_the_prompt_too_and_at_parts_that_come_late() -> None:
    stream = make_stream(processors=LogitProcessors(repetition_penalty=1.1))
    stream.num_missing_tokens = 2
    stream.add_prompt((11, 16))
    assert stream.census is not None
    assert [11, 12, 13, 14, 15, 16] == stream.census.seen(()).token_ids.tolist()


def test_streams_that_ask_for_nothing_count_nothing() -> None:
    stream = running(processors=LogitProcessors(stop_token_ids=(40,)))
    check = draft_check(stream, *drafts_to_test(stream, 64))
    assert (None, None, None) == (stream.census, check.processing, check.seen)


@pytest.mark.parametrize(
    "processors", [LogitProcessors(min_tokens=3), LogitProcessors(ignore_eos=True)]
)
def test_what_counts_no_tokens_needs_no_census(processors: LogitProcessors) -> None:
    stream = running(processors=processors)
    check = draft_check(stream, *drafts_to_test(stream, 64))
    assert (True, None) == (check.processing is not None, check.seen)


# --- a grammar ------------------------------------------------------------------------------------


def settle_forced(
    stream: Stream, num_accepted: int, token_id: int | None, num_forced: int, *drafts: int
) -> Settled:
    sampling, mode = stream.request.sampling, stream.request.mode
    check = DraftCheck(drafts, (), mode, sampling, 0, stream.position, True, num_forced=num_forced)
    return settled(stream, check, ItemOutcome(num_accepted, token_id, forced_ids=(41, 42)))


def test_what_a_grammar_forced_is_told_as_the_verifiers_own() -> None:
    stream = running(position=3)
    told = settle_forced(stream, 2, 40, 2, 33, 34)
    assert Settled(3, 0, (33, 34, 40), num_tested=0, num_forced=2) == told
    assert ((41, 42), 6) == (stream.forced_ids, stream.position)
    assert stream.num_tokens - 1 == stream.num_cached_tokens


def test_behind_the_boards_own_drafts_only_the_rest_is_forced() -> None:
    stream = running(position=3)
    draft(stream, 31)
    told = settle_forced(stream, 2, 40, 2, 31, 33, 34)
    assert Settled(3, 1, (33, 40), num_tested=1, num_forced=1) == told


def test_a_board_is_not_waited_for_where_the_grammar_knows_what_comes() -> None:
    stream = running(position=3)
    stream.grant(4, 8, now=0.0, awaited_seconds=1.0)
    assert 1.0 == stream.sits_out_until
    stream.forced_ids = (41,)
    assert stream.sits_out_until is None


def test_without_masks_a_round_only_reads() -> None:
    stream = running(position=3)
    stream.num_cached_tokens = 0
    check = draft_check(stream, *drafts_to_test(stream, 64))
    assert stream.settle(stream.num_tokens, check, ItemOutcome(0, None)) is None
    assert stream.num_tokens - 1 == stream.num_cached_tokens
    assert 3 == stream.position
