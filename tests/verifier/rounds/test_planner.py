"""The round planner: who takes part in a round, with how much, and what becomes of it."""

from __future__ import annotations

import pytest

from shared.errors import RequestRefused
from shared.protocol.draft_path import Extension
from shared.speculation.goodput import IntArray
from tests.support.ends.planning import (
    add,
    chunk,
    draft,
    finish,
    live_ids,
    make_curve,
    make_planner,
    make_stream,
    play,
    send,
    served,
    start,
)
from verifier.policies import FixedPolicy, OpenStreams
from verifier.rounds.planner import RoundPlanner, StreamResult
from verifier.scheduling.draft_plan import NO_PLAN
from verifier.streams.settled import Settled
from verifier.streams.stream import Stream
from verifier.target.round import ItemFailure, ItemOutcome, Round, RoundOutcome


def drafting(planner: RoundPlanner, *streams: Stream) -> None:
    """Bring streams to their first window: prompt read, one token said, board ready."""
    add(planner, *streams)
    for stream in streams:
        stream.board_is_ready = True
    play(planner, now=0.0)
    assert all(stream.window for stream in streams)


def drafts(round_: Round) -> dict[int, tuple[int, ...]]:
    return {
        item.stream: item.draft_check.draft_token_ids
        for item in round_.items
        if item.draft_check is not None
    }


# --- admission ------------------------------------------------------------------------------------


def test_no_streams_no_round() -> None:
    planner = make_planner()
    assert None is planner.start_round(0.0)
    assert None is planner.next_deadline()


def test_a_stream_that_can_never_fit_is_refused() -> None:
    planner = make_planner(num_blocks=6, block_tokens=4)
    with pytest.raises(RequestRefused, match="25 tokens exceed the cache of 24") as refusal:
        planner.add(make_stream())
    assert ("max_tokens", {}) == (refusal.value.field, planner.queue)


def test_streams_wait_for_room_in_the_cache_and_nobody_overtakes() -> None:
    planner = make_planner(num_blocks=10, block_tokens=4)
    first, long, short = make_stream(1), make_stream(2), make_stream(3, max_output_tokens=3)
    add(planner, first, long, short)  # 7, 7 and 2 blocks
    assert {1: 5} == served(start(planner))
    assert [2, 3] == list(planner.queue)
    planner.cancel(first)
    planner.abandon_round()
    assert {2: 5, 3: 5} == served(start(planner))
    assert {} == planner.queue


def test_a_round_cannot_start_while_one_is_running() -> None:
    planner = make_planner()
    add(planner, make_stream())
    start(planner)
    with pytest.raises(AssertionError):
        planner.start_round(0.0)


# --- prompts --------------------------------------------------------------------------------------


def test_prompts_share_the_prefill_chunk_of_a_round() -> None:
    planner = make_planner(prefill_chunk_tokens=6)
    add(planner, make_stream(1), make_stream(2), make_stream(3))
    rounds = []
    for _ in range(3):
        round_ = start(planner)
        rounds.append(served(round_))
        finish(planner, round_)
    # The chunk of the first round covers stream 1 and one token of stream 2.
    assert [{1: 5, 2: 1}, {3: 5, 1: 1, 2: 1}, {2: 3, 3: 1, 1: 1}] == rounds


def test_a_part_of_a_prompt_makes_no_logits() -> None:
    planner = make_planner(prefill_chunk_tokens=3)
    stream = make_stream()
    add(planner, stream)
    first = start(planner)
    (item,) = first.items
    assert ((11, 12, 13), 0, None) == (item.token_ids, item.num_cached_tokens, item.draft_check)
    assert [] == finish(planner, first)
    (item,) = start(planner).items
    assert ((14, 15), 3) == (item.token_ids, item.num_cached_tokens)
    assert item.draft_check is not None


def test_the_last_token_of_a_prompt_alone_is_no_prefill() -> None:
    planner = make_planner(prefill_chunk_tokens=4)
    add(planner, make_stream(1), make_stream(2))
    play(planner)
    assert {1: 1, 2: 4} == served(start(planner))


def test_a_stream_that_is_taken_up_again_reads_its_output_with_its_prompt() -> None:
    planner = make_planner()
    stream = make_stream()
    stream.take_up_again((40, 41))
    add(planner, stream)
    (item,) = start(planner).items
    assert (11, 12, 13, 14, 15, 40, 41) == item.token_ids
    assert item.draft_check is not None
    assert 2 == item.draft_check.position


def test_newcomers_do_not_push_a_long_prompt_back() -> None:
    planner = make_planner(prefill_chunk_tokens=4, num_blocks=1000)
    long = make_stream(1, prompt_ids=(11,) * 40)
    add(planner, long)
    for number in range(2, 12):
        add(planner, make_stream(number, prompt_ids=(11,) * 4))
        play(planner)
    # Newcomers alone could fill every round; each of them goes before it only once.
    assert 4 * 4 == long.num_cached_tokens


def test_a_long_prompt_lengthens_the_round_of_others_only_so_much() -> None:
    planner = make_planner(prefill_slowdown_limit=0.1, block_tokens=4, num_blocks=1000)
    long, short = make_stream(1, prompt_ids=(11,) * 200), make_stream(2)
    add(planner, short)
    play(planner)
    add(planner, long)
    # A round of one token takes 0.101 s; ten more lengthen it by 0.01 s.
    assert {1: 10, 2: 1} == served(start(planner))
    planner.discard(short)
    planner.abandon_round()
    add(planner, make_stream(3, prompt_ids=(12,) * 200))
    assert {3: 64} == served(start(planner))


# --- limits of a round ----------------------------------------------------------------------------


def test_everybody_gets_a_token_before_anybody_gets_a_draft() -> None:
    planner = make_planner()
    streams = [make_stream(number) for number in (1, 2, 3)]
    drafting(planner, *streams)
    planner.settings = make_planner(max_round_tokens=6).settings
    for stream in streams:
        draft(stream, 31, 32)
    assert {1: 3, 2: 2, 3: 1} == served(start(planner))


def test_the_longest_unserved_goes_first() -> None:
    planner = make_planner(max_round_tokens=5)
    add(planner, *(make_stream(number) for number in (1, 2, 3)))
    assert [{1: 5}, {2: 5}, {3: 5}, {1: 1, 2: 1, 3: 1}] == [next_served(planner) for _ in range(4)]


def next_served(planner: RoundPlanner) -> dict[int, int]:
    round_ = start(planner)
    finish(planner, round_)
    return served(round_)


def test_drafts_are_cut_to_the_budget_and_the_rest_stays_live() -> None:
    planner = make_planner(budget_tokens=6)
    streams = [make_stream(number, draft_length=5) for number in (1, 2)]
    drafting(planner, *streams)
    for stream in streams:
        draft(stream, 31, 32, 33, 34, 35)
    first = start(planner)
    assert {1: (31, 32, 33, 34, 35), 2: (31,)} == drafts(first)
    finish(planner, first, {1: (5, 36), 2: (1, 32)})
    draft(streams[0], 37, 38, 39, 40)
    assert {1: (37, 38, 39, 40), 2: (33, 34)} == drafts(start(planner))


def test_who_got_no_draft_token_last_round_goes_before_who_did() -> None:
    planner = make_planner(budget_tokens=4)
    streams = [make_stream(number, draft_length=4) for number in (1, 2)]
    drafting(planner, *streams)
    draft(streams[0], 31, 32, 33, 34)
    draft(streams[1], 31, 32)
    first = start(planner)
    assert {1: (31, 32, 33, 34), 2: ()} == drafts(first)
    finish(planner, first, {1: (4, 35), 2: (0, 31)})
    draft(streams[0], 36, 37, 38, 39)
    assert {2: (32,), 1: (36, 37, 38)} == drafts(start(planner))


def test_a_derived_budget_covers_what_requests_fixed() -> None:
    planner = make_planner(budget_tokens=None, policy=FixedPolicy(0))
    stream = make_stream(draft_length=5)
    drafting(planner, stream)
    assert (5, 5) == (stream.draft_length, planner.draft_plan.budget_tokens)
    draft(stream, 31, 32, 33, 34, 35, 36)
    assert {1: (31, 32, 33, 34, 35)} == drafts(start(planner))


# --- chunks of sampled tokens ---------------------------------------------------------------------


def rejection_stream(planner: RoundPlanner, number: int = 1) -> Stream:
    stream = make_stream(number, mode="rejection")
    drafting(planner, stream)
    return stream


def test_a_chunk_that_the_budget_cuts_is_tested_in_the_next_rounds() -> None:
    planner = make_planner(budget_tokens=3)
    stream = rejection_stream(planner)
    draft(stream, 31, 32, 33)
    planner.settings = make_planner(budget_tokens=2).settings
    first = start(planner)
    assert {1: (31, 32)} == drafts(first)
    (result,) = finish(planner, first, {1: (2, None)})
    assert Settled(1, 2, (), 2) == result.settled
    (item,) = start(planner).items
    assert (32, 33) == item.token_ids  # 32 once more: the logits after it decide on 33
    assert item.draft_check is not None
    assert ((33,), 3, True) == (
        item.draft_check.draft_token_ids,
        item.draft_check.position,
        item.draft_check.draws_bonus,
    )


def test_two_chunks_with_one_draft_token_of_budget_take_turns() -> None:
    planner = make_planner(budget_tokens=2)
    streams = [make_stream(number, mode="rejection") for number in (1, 2)]
    drafting(planner, *streams)
    for stream in streams:
        draft(stream, 31)
    planner.settings = make_planner(budget_tokens=1).settings
    first = start(planner)
    assert {1: (31,)} == drafts(first)
    finish(planner, first, {1: (1, 32)})
    assert {2: (31,)} == drafts(start(planner))


def test_a_chunk_is_tested_even_when_the_budget_fell_to_nothing() -> None:
    planner = make_planner(budget_tokens=None)
    stream = rejection_stream(planner)
    draft(stream, 31, 32)
    planner.draft_plan = NO_PLAN
    assert {1: (31,)} == drafts(start(planner))


def test_a_guess_of_the_bonus_token_is_not_tested() -> None:
    planner = make_planner()
    stream = rejection_stream(planner)
    send(stream, chunk(31, 32))
    send(stream, (chunk(33, has_rows=False)[0], *chunk(34)))
    assert {1: (31, 32)} == drafts(start(planner))


# --- waiting for boards ---------------------------------------------------------------------------


def test_a_rejection_stream_takes_part_when_its_chunk_is_here() -> None:
    planner = make_planner()
    stream = rejection_stream(planner)
    assert None is planner.start_round(1.0)
    draft(stream, 31)
    assert {1: 2} == served(start(planner, 1.0))


def test_a_rejection_stream_takes_part_after_a_pass() -> None:
    planner = make_planner()
    stream = rejection_stream(planner)
    send(stream, ())
    assert {1: ()} == drafts(start(planner, 1.0))


def test_a_coupled_stream_takes_part_in_every_round() -> None:
    planner = make_planner()
    drafting(planner, make_stream())
    assert {1: ()} == drafts(start(planner, 0.1))


def test_a_board_that_stays_silent_is_taken_for_lost_until_it_is_heard_of_again() -> None:
    planner = make_planner(draft_timeout_seconds=5.0)
    stream = rejection_stream(planner)  # granted at 0.1
    deadline = planner.next_deadline()
    assert 5.1 == deadline
    assert None is planner.start_round(5.09)
    assert 0 == planner.patience.num_draft_timeouts
    round_ = start(planner, deadline)
    assert ({1: ()}, 1, None) == (
        drafts(round_),
        planner.patience.num_draft_timeouts,
        planner.next_deadline(),
    )
    finish(planner, round_, now=6.0)
    assert (0, 0) == (stream.draft_length, stream.window)
    play(planner, now=7.0)
    assert (1, 0) == (planner.patience.num_draft_timeouts, stream.window)
    stream.board_is_ready = True  # Ready, or the late draft itself
    play(planner, now=8.0)
    assert 0 < stream.window


def test_a_draft_that_comes_late_is_dropped_and_shows_that_the_board_is_there() -> None:
    planner = make_planner(draft_timeout_seconds=5.0)
    stream = rejection_stream(planner)
    late = Extension(stream.path.base, stream.position, chunk(31, 32))
    play(planner, now=9.0)
    stream.receive_draft(late, 0.1, now=10.0)
    assert ([], True) == (live_ids(stream), stream.board_is_ready)
    play(planner, now=11.0)
    assert 0 < stream.window


def test_no_claim_of_a_board_makes_the_verifier_wait_longer() -> None:
    planner = make_planner(draft_timeout_seconds=5.0)
    stream = rejection_stream(planner)
    stream.estimates.speed.observe_drafting(1, 12 * 86_400.0)
    stream.estimates.speed.observe_round_trip(3600.0)
    assert 5.1 == planner.next_deadline()
    assert None is planner.start_round(5.0)
    assert {1: ()} == drafts(start(planner, 5.2))


def test_the_next_deadline_is_that_of_the_longest_wait() -> None:
    planner = make_planner()
    first, second = make_stream(1, mode="rejection"), make_stream(2, mode="rejection")
    drafting(planner, first, second)
    draft(second, 31)
    finish(planner, start(planner, 2.0), {2: (1, 32)}, now=3.0)
    assert (5.1, 8.0) == (planner.next_deadline(), second.waiting_since + 5.0)


# --- barrier --------------------------------------------------------------------------------------


def test_with_a_barrier_a_round_has_all_the_drafts() -> None:
    planner = make_planner(is_barrier=True)
    streams = [make_stream(number) for number in (1, 2)]
    drafting(planner, *streams)
    assert None is planner.start_round(1.0)
    draft(streams[0], 31, 32)
    assert None is planner.start_round(1.0)
    draft(streams[1], 41)
    assert {1: (31, 32), 2: (41,)} == drafts(start(planner, 1.0))


def test_with_a_barrier_a_pass_is_an_answer() -> None:
    planner = make_planner(is_barrier=True)
    stream = make_stream()
    drafting(planner, stream)
    send(stream, ())
    assert {1: ()} == drafts(start(planner, 1.0))


def test_with_a_barrier_a_silent_board_holds_the_others_up_once() -> None:
    planner = make_planner(is_barrier=True)
    silent, other = make_stream(1), make_stream(2)
    drafting(planner, silent, other)
    draft(other, 41)
    assert None is planner.start_round(5.0)
    round_ = start(planner, 5.2)
    assert {1: (), 2: (41,)} == drafts(round_)
    finish(planner, round_, {2: (1, 42)}, now=5.3)
    draft(other, 43)
    assert {1, 2} == set(drafts(start(planner, 5.4)))
    assert 1 == planner.patience.num_draft_timeouts


def test_with_a_barrier_streams_without_a_window_hold_nobody_up() -> None:
    planner = make_planner(is_barrier=True)
    stream = make_stream(1)
    drafting(planner, stream)
    draft(stream, 31)
    add(planner, make_stream(2))
    assert {1: 2, 2: 5} == served(start(planner, 1.0))


# --- the end of a stream --------------------------------------------------------------------------


def test_a_finished_stream_leaves_the_cache() -> None:
    planner = make_planner()
    stream = make_stream(max_output_tokens=1)
    add(planner, stream)
    (result,) = play(planner)
    assert stream.finish is not None
    assert (stream, "length", {}) == (result.stream, stream.finish.reason, planner.streams)
    assert planner.blocks.num_blocks == planner.blocks.num_free_blocks


def test_the_end_comes_within_a_draft() -> None:
    planner = make_planner()
    stream = make_stream(max_output_tokens=4)
    drafting(planner, stream)
    draft(stream, 31, 0)
    (result,) = finish(planner, start(planner), {1: (2, 40)})
    assert Settled(position=1, num_accepted=2, own_token_ids=(), num_tested=2) == result.settled
    assert stream.finish is not None
    assert "end" == stream.finish.reason


def test_rejected_drafts_leave_the_cache() -> None:
    planner = make_planner(block_tokens=2)
    stream = make_stream()
    drafting(planner, stream)
    draft(stream, 31, 32, 33, 34)
    finish(planner, start(planner), {1: (1, 40)})
    # 5 prompt tokens, the first output token and one draft token are read.
    assert 7 == stream.num_cached_tokens
    with pytest.raises(AssertionError, match="a roll-back adds no tokens"):
        planner.blocks.shrink(stream.number, 8)
    (item,) = start(planner).items
    assert ((40,), 7) == (item.token_ids, item.num_cached_tokens)


def test_a_stream_may_be_cancelled_before_it_was_admitted() -> None:
    planner = make_planner(num_blocks=7)
    first, second = make_stream(1), make_stream(2)
    add(planner, first, second)
    start(planner)
    result = planner.cancel(second)
    assert StreamResult.ended(second) == result
    assert second.finish is not None
    assert ("cancelled", {}) == (second.finish.reason, planner.queue)


def test_a_stream_may_be_cancelled_between_rounds() -> None:
    planner = make_planner()
    stream = make_stream()
    drafting(planner, stream)
    result = planner.cancel(stream)
    assert result is not None
    assert (Settled(1, 0, (), 0), None) == (result.settled, result.failure)
    assert ({}, 100) == (planner.streams, planner.blocks.num_free_blocks)


def test_a_stream_that_is_cancelled_in_a_round_keeps_what_the_round_gave() -> None:
    planner = make_planner()
    stream = make_stream()
    add(planner, stream)
    round_ = start(planner)
    assert None is planner.cancel(stream)
    (result,) = finish(planner, round_, {1: (0, 40)})
    assert Settled(0, 0, (40,), 0) == result.settled
    assert stream.finish is not None
    assert ("cancelled", {}) == (stream.finish.reason, planner.streams)


def test_a_stream_that_ends_by_itself_in_the_round_was_not_cancelled() -> None:
    planner = make_planner()
    stream = make_stream(max_output_tokens=1)
    add(planner, stream)
    round_ = start(planner)
    planner.cancel(stream)
    finish(planner, round_)
    assert stream.finish is not None
    assert "length" == stream.finish.reason


def test_a_stream_may_be_cancelled_while_its_prompt_is_read() -> None:
    planner = make_planner(prefill_chunk_tokens=2)
    stream = make_stream()
    add(planner, stream)
    round_ = start(planner)
    planner.cancel(stream)
    assert [StreamResult.ended(stream)] == finish(planner, round_)
    assert {} == planner.streams


@pytest.mark.parametrize("is_running", [False, True])
def test_a_discarded_stream_has_no_result(is_running: bool) -> None:
    planner = make_planner()
    stream, other = make_stream(1), make_stream(2)
    add(planner, stream, other)
    play(planner)
    round_ = start(planner) if is_running else None
    planner.discard(stream)
    results = finish(planner, round_ or start(planner))
    assert [other] == [result.stream for result in results]
    assert [2] == list(planner.streams)
    assert {2: 1} == served(start(planner))


def test_a_stream_may_be_discarded_from_the_queue() -> None:
    planner = make_planner()
    stream = make_stream()
    add(planner, stream)
    planner.discard(stream)
    assert (None, {}) == (planner.start_round(0.0), planner.queue)


def test_the_time_of_a_round_that_was_run_again_in_parts_teaches_nothing() -> None:
    def learned(num_reruns: int, seconds: float) -> float:
        planner = make_planner()
        add(planner, make_stream(1))
        outcome = RoundOutcome((ItemOutcome(0, 40),), 0.1, 0.0, num_reruns)
        round_ = start(planner)
        expected = planner.curve.round_seconds(round_.num_tokens, round_.context_tokens)
        planner.finish_round(round_, outcome, seconds, seconds)
        planner.follow_up(seconds)
        after = planner.curve.round_seconds(round_.num_tokens, round_.context_tokens)
        return after - expected

    assert 0.0 == pytest.approx(learned(2, 50.0), abs=1e-9)
    assert learned(0, 50.0) > 1e-3


def test_a_stream_that_fails_takes_no_other_with_it() -> None:
    planner = make_planner()
    bad, good = make_stream(1), make_stream(2)
    add(planner, bad, good)
    round_ = start(planner)
    outcome = RoundOutcome(
        (ItemOutcome(0, None, failure=ItemFailure.EXCEPTION), ItemOutcome(0, 40)), 0.1, 0.0
    )
    results = planner.finish_round(round_, outcome, 0.1, 0.1)
    assert [(ItemFailure.EXCEPTION, 0), (None, 1)] == [
        (r.failure, r.stream.position) for r in results
    ]
    assert [2] == list(planner.streams)


def test_when_the_target_fails_all_streams_of_the_round_end_and_no_others() -> None:
    planner = make_planner(prefill_chunk_tokens=5)
    streams = [make_stream(number) for number in (1, 2, 3)]
    add(planner, *streams[:2])
    start(planner)
    add(planner, streams[2])
    planner.discard(streams[0])
    assert [] == planner.abandon_round()
    assert {2: 5} == served(start(planner))
    (result,) = planner.abandon_round()
    assert (streams[1], "the target model failed") == (result.stream, result.failure)
    assert {3: 5} == served(start(planner))


def test_after_all_the_cache_is_empty() -> None:
    planner = make_planner(num_blocks=20, prefill_chunk_tokens=7)
    streams = [make_stream(number, max_output_tokens=3) for number in range(1, 8)]
    add(planner, *streams)
    num_rounds = 0
    while planner.streams or planner.queue:
        play(planner, now=float(num_rounds))
        planner.blocks.check_integrity()
        num_rounds += 1
    assert 20 == planner.blocks.num_free_blocks
    assert all(stream.position == 3 for stream in streams)


# --- boards that are lost in the middle of a round ------------------------------------------------


def test_a_stream_parked_in_a_round_is_settled_first() -> None:
    planner = make_planner()
    first, second = make_stream(1), make_stream(2)
    add(planner, first, second)
    round_ = start(planner)
    planner.park(second)
    assert [1, 2] == [result.stream.number for result in finish(planner, round_)]
    assert (1, [1], [2]) == (second.position, list(planner.streams), list(planner.admission.parked))


def test_a_stream_that_is_back_before_its_round_is_over_was_never_away() -> None:
    planner = make_planner()
    stream = make_stream()
    add(planner, stream)
    round_ = start(planner)
    planner.park(stream)
    planner.unpark(stream)
    finish(planner, round_)
    assert {1: 1} == served(start(planner, 1.0))


def test_a_stream_that_ends_in_the_round_is_not_parked() -> None:
    planner = make_planner()
    stream = make_stream(max_output_tokens=1)
    add(planner, stream)
    round_ = start(planner)
    planner.park(stream)
    (result,) = finish(planner, round_)
    assert result.stream.finish is not None
    assert ({}, {}) == (planner.streams, planner.admission.parked)
    assert planner.blocks.num_blocks == planner.blocks.num_free_blocks


@pytest.mark.parametrize("fails", [False, True])
def test_a_parked_stream_may_be_discarded_or_fail_in_the_round(fails: bool) -> None:
    planner = make_planner()
    stream = make_stream()
    add(planner, stream)
    round_ = start(planner)
    planner.park(stream)
    if fails:
        (result,) = planner.abandon_round()
        assert result.failure is not None
    else:
        planner.discard(stream)
        assert [] == finish(planner, round_)
    assert ({}, {}) == (planner.streams, planner.admission.parked)
    assert planner.blocks.num_blocks == planner.blocks.num_free_blocks


def test_a_board_that_is_back_is_told_all_tokens_of_the_round_it_missed() -> None:
    """It knows nothing of what it had drafted: accepted tokens are told like the target's own."""
    planner = make_planner()
    stream = make_stream()
    drafting(planner, stream)
    draft(stream, 31, 32, 33)
    round_ = start(planner, 1.0)
    planner.park(stream)
    stream.attach(num_known=1, draft_context_tokens=1000)
    planner.unpark(stream)
    (result,) = finish(planner, round_, {1: (2, 40)})
    assert (1, 0, (31, 32, 40)) == (
        result.settled.position,
        result.settled.num_accepted,
        result.settled.own_token_ids,
    )
    assert (0, 4) == (stream.window, stream.position)


# --- what rounds teach ----------------------------------------------------------------------------


def test_a_round_moves_the_cost_curve() -> None:
    planner = make_planner()
    add(planner, make_stream())
    round_ = start(planner)
    outcome = RoundOutcome((ItemOutcome(0, 40),), 0.4, 0.0)
    planner.finish_round(round_, outcome, round_seconds=0.5, now=1.0)
    assert make_curve().round_seconds(5, 5) < planner.curve.round_seconds(5, 5) < 0.5


def test_goodput_counts_every_round_and_sums_over_a_device() -> None:
    planner = make_planner(prefill_chunk_tokens=5)
    one = make_stream(1, max_output_tokens=100)
    two = make_stream(2, max_output_tokens=100, device_estimates=one.device_estimates)
    other = make_stream(3, max_output_tokens=100, device="other board")
    add(planner, one, two, other)
    for i in range(40):
        play(planner, now=0.2 * i)
    # Every round gives each of them a token.
    for stream, num_tokens in [(one, 2), (other, 1)]:
        goodput = stream.device_estimates.goodput
        assert num_tokens == pytest.approx(goodput.tokens_per_round, rel=0.05)


def test_a_stream_that_has_no_part_in_a_round_got_nothing_from_it() -> None:
    planner = make_planner()
    waiting, other = make_stream(1, mode="rejection"), make_stream(2)
    drafting(planner, waiting, other)
    before = waiting.device_estimates.goodput.tokens_per_round
    play(planner, now=1.0)
    assert before > waiting.device_estimates.goodput.tokens_per_round


def test_grants_follow_the_policy_for_those_who_had_a_part() -> None:
    planner = make_planner(budget_tokens=8, policy=FixedPolicy(4))
    first, second = make_stream(1), make_stream(2)
    drafting(planner, first, second)
    assert [(4, 5)] * 2 == [(stream.draft_length, stream.window) for stream in (first, second)]
    assert 8 == planner.draft_plan.budget_tokens


# --- what the next round does not wait for --------------------------------------------------------


class CountedPolicy(FixedPolicy):
    """Four tokens for each stream, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__(4)
        self.num_asked = 0

    def allocate(self, streams: OpenStreams, budget_tokens: int) -> IntArray:
        self.num_asked += 1
        return super().allocate(streams, budget_tokens)


def test_the_drafts_of_a_round_are_planned_while_it_runs() -> None:
    """The end of the round grants by that plan: it asks the policy nothing."""
    policy = CountedPolicy()
    planner = make_planner(budget_tokens=8, policy=policy)
    streams = [make_stream(1), make_stream(2)]
    drafting(planner, *streams)
    round_ = planner.start_round(1.0)
    assert round_ is not None
    planner.follow_up(1.0)
    num_asked = policy.num_asked
    finish(planner, round_, now=1.1)
    assert num_asked == policy.num_asked
    assert [4, 4] == [stream.draft_length for stream in streams]


def test_a_board_that_became_ready_during_the_round_is_planned_for_at_its_end() -> None:
    policy = CountedPolicy()
    planner = make_planner(budget_tokens=6, policy=policy)
    first, late = make_stream(1), make_stream(2)
    drafting(planner, first, late)
    late.board_is_ready = False
    round_ = planner.start_round(1.0)
    assert round_ is not None
    planner.follow_up(1.0)
    late.board_is_ready = True
    num_asked = policy.num_asked
    finish(planner, round_, now=1.1)
    assert num_asked + 1 == policy.num_asked
    assert [3, 3] == [stream.draft_length for stream in (first, late)]


def test_a_round_is_learned_once_however_often_there_is_time() -> None:
    alone, followed = make_planner(), make_planner()
    for planner in (alone, followed):
        drafting(planner, make_stream(1))
        for now in (1.0, 2.0, 3.0):
            round_ = planner.start_round(now)
            assert round_ is not None
            if planner is followed:
                planner.follow_up(now)
                planner.follow_up(now)
            finish(planner, round_, now=now + 0.1)
        planner.follow_up(4.0)
    rates = [p.streams[1].device_estimates.goodput.tokens_per_round for p in (alone, followed)]
    assert rates[0] == rates[1]
    assert alone.curve.to_json() == followed.curve.to_json()
