"""One stream at the board: what it computes next, what it sends and when, what verdicts change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_agent.drafting.draw_spec import DrawSpec, path_seed
from edge_agent.drafting.settings import DraftSettings
from edge_agent.drafting.slot_feed import READY_WITHIN_TOKENS
from edge_agent.drafting.step import DraftStep
from edge_agent.drafting.stream import AgentStream
from edge_agent.drafting.verdict import Committed
from shared.errors import RemoteProtocolError
from shared.protocol.draft_path import DraftToken
from shared.protocol.messages import AcceptanceMode, Draft, Finish, Opened, Verdict
from shared.protocol.token_ids import pack_token_ids, unpack_token_ids
from shared.speculation.sampling import SamplingParameters
from shared.speculation.sparse_row import SparseRow
from verifier.streams.draft_arrival import unpack_rows

PROMPT = (11, 12, 13, 14, 15)
ROW = SparseRow(np.array([1, 2], dtype=np.uint32), np.array([60000, 5535], dtype=np.uint16))
CONFIDENCE_STOP = 0.25


def make_stream(
    *, drafts: bool = True, prefill_chunk_tokens: int = 16, context_tokens: int = 1000
) -> AgentStream:
    return AgentStream(
        channel=4,
        vocab_size=100,
        settings=DraftSettings(
            row_entries=8,
            confidence_stop=CONFIDENCE_STOP,
            prefill_chunk_tokens=prefill_chunk_tokens,
            context_tokens=context_tokens,
        ),
        sampling=SamplingParameters(temperature=0.7),
        drafts=drafts,
    )


def open_stream(
    mode: AcceptanceMode = "coupled", prompt_ids: tuple[int, ...] = PROMPT, **changes: Any
) -> AgentStream:
    """A stream that the verifier has just opened."""
    stream = make_stream(**changes)
    stream.start(opened(mode, prompt_ids))
    return stream


def opened(mode: AcceptanceMode, prompt_ids: tuple[int, ...] = PROMPT) -> Opened:
    return Opened(4, pack_token_ids(prompt_ids), seed=7, acceptance_mode=mode)


def running(
    mode: AcceptanceMode = "coupled", draft_length: int = 3, window: int = 6, **changes: Any
) -> AgentStream:
    """A stream that has said 20 and may draft."""
    stream = open_stream(mode, **changes)
    read(stream)
    stream.take_ready()
    verdict(stream, 20, draft_length=draft_length, window=window)
    return stream


def read(stream: AgentStream) -> None:
    """Let the draft model read as long as there is nothing to draw."""
    while (step := stream.next_step()) is not None and step.spec is None:
        assert [] == stream.record_step(step, None, 0.1, 0.0)


def verdict(
    stream: AgentStream,
    *own: int,
    accepted: int = 0,
    draft_length: int = 3,
    window: int = 6,
    finish: Finish | None = None,
    now: float = 0.0,
) -> Committed:
    return stream.commit_verdict(
        Verdict(
            channel=stream.channel,
            position=len(stream.output_ids),
            num_accepted=accepted,
            tokens=pack_token_ids(own),
            draft_length=draft_length,
            window=window,
            finish=finish,
        ),
        now,
    )


def draw_step(stream: AgentStream) -> tuple[DraftStep, DrawSpec]:
    step = stream.next_step()
    assert step is not None
    assert step.spec is not None
    return step, step.spec


def draft(
    stream: AgentStream, *token_ids: int | None, seconds: float = 0.0, now: float = 100.0
) -> list[Draft]:
    """The draft model draws these tokens one after the other (None: it is not sure enough)."""
    sent: list[Draft] = []
    for token_id in token_ids:
        step, spec = draw_step(stream)
        has_row = spec.mode == "rejection" and not spec.is_guess
        drawn = None if token_id is None else DraftToken(token_id, ROW if has_row else None)
        sent += stream.record_step(step, drawn, seconds, now)
    return sent


def contents(drafts: list[Draft]) -> list[tuple[int, list[int]]]:
    """Position and token ids of each draft."""
    return [(one.position, unpack_token_ids(one.tokens, 100).tolist()) for one in drafts]


def unsent_ids(stream: AgentStream) -> list[int]:
    return [token.token_id for token in stream.unsent.tokens]


def live_ids(stream: AgentStream) -> list[int]:
    return [token.token_id for token in stream.path.live]


# --- reading the prompt ---------------------------------------------------------------------------


def test_nothing_is_computed_before_the_stream_is_open() -> None:
    stream = make_stream()
    assert None is stream.next_step()
    assert not stream.take_ready()


def test_without_speculation_nothing_is_ever_computed() -> None:
    stream = open_stream(drafts=False)
    verdict(stream, 20)
    assert None is stream.next_step()
    assert not stream.take_ready()


def test_a_prompt_is_read_in_chunks_up_to_its_last_token() -> None:
    prompt_ids = tuple(range(1, 41))
    stream = open_stream(prompt_ids=prompt_ids, prefill_chunk_tokens=16)
    chunks = []
    while (step := stream.next_step()) is not None:
        chunks.append((step.num_kept_tokens, step.token_ids, step.spec))
        stream.record_step(step, None, 0.1, 0.0)
    assert [
        (0, prompt_ids[:16], None),
        (16, prompt_ids[16:32], None),
        (32, prompt_ids[32:39], None),
    ] == chunks


def test_what_the_target_says_meanwhile_is_read_too() -> None:
    stream = open_stream(prefill_chunk_tokens=3)
    step = stream.next_step()
    assert step is not None
    verdict(stream, 20, window=0)
    verdict(stream, 21, window=0)
    stream.record_step(step, None, 0.1, 0.0)
    step = stream.next_step()
    assert step is not None
    assert (3, (14, 15, 20)) == (step.num_kept_tokens, step.token_ids)


@pytest.mark.parametrize(
    ("num_prompt", "chunk", "num_steps"),
    [(5, 16, 0), (32, 16, 2), (23, 16, 1), (24, 16, 1), (25, 16, 2), (12, 3, 3)],
)
def test_the_board_is_ready_one_small_batch_behind(
    num_prompt: int, chunk: int, num_steps: int
) -> None:
    stream = open_stream(prompt_ids=tuple(range(1, num_prompt + 1)), prefill_chunk_tokens=chunk)
    steps = 0
    while not stream.take_ready():
        step = stream.next_step()
        assert step is not None
        stream.record_step(step, None, 0.1, 0.0)
        steps += 1
    assert num_steps == steps
    assert stream.num_tokens - stream.feed.num_fed_tokens <= min(READY_WITHIN_TOKENS, chunk)
    assert not stream.take_ready()  # once


def test_a_board_that_is_ready_keeps_up_without_a_window() -> None:
    stream = running()
    verdict(stream, 21, window=0)
    read(stream)
    assert stream.take_ready()
    for token_id in range(30, 60):
        verdict(stream, token_id, window=0)
        read(stream)
        assert stream.num_tokens - stream.feed.num_fed_tokens <= READY_WITHIN_TOKENS


def test_a_prompt_that_fills_the_boards_context_is_not_read() -> None:
    assert None is open_stream(context_tokens=5).next_step()
    assert None is not open_stream(context_tokens=6).next_step()


# --- drafting, greedy and coupled -----------------------------------------------------------------


def test_the_first_draw_follows_the_newest_token() -> None:
    stream = running()
    step, spec = draw_step(stream)
    assert (4, (15, 20)) == (step.num_kept_tokens, step.token_ids)
    assert spec == DrawSpec(
        mode="coupled",
        sampling=SamplingParameters(temperature=0.7),
        seed=7,
        position=1,
        vocab_size=100,
        is_guess=False,
        row_entries=8,
        confidence_stop=CONFIDENCE_STOP,
        is_rated=False,  # the verifier has not asked
    )


def test_a_draft_goes_when_it_is_as_long_as_was_asked() -> None:
    stream = running(draft_length=3, window=6)
    assert [] == draft(stream, 31, 32)
    (sent,) = draft(stream, 33, seconds=0.5)
    assert (4, 0, 1, 500, b"") == (
        sent.channel,
        sent.base,
        sent.position,
        sent.drafting_milliseconds,
        sent.rows,
    )
    assert [(1, [31, 32, 33])] == contents([sent])
    assert ([31, 32, 33], []) == (live_ids(stream), unsent_ids(stream))


def test_drafting_goes_on_ahead_up_to_the_window() -> None:
    stream = running(draft_length=4, window=9)
    sent = draft(stream, *range(31, 40))
    assert [(1, [31, 32, 33, 34]), (5, [35, 36, 37, 38])] == contents(sent)
    assert None is stream.next_step()


def test_a_rest_that_missed_its_round_waits_for_the_verdict() -> None:
    stream = running(draft_length=4, window=6)
    assert [(1, [31, 32, 33, 34])] == contents(draft(stream, *range(31, 37)))
    verdict(stream, 35, accepted=4, draft_length=4, window=1)
    assert [(6, [36])] == contents(stream.take_due_drafts())


def test_a_rest_goes_with_the_path_that_the_verdict_ends() -> None:
    stream = running(draft_length=4, window=6)
    draft(stream, *range(31, 37))
    verdict(stream, 99, accepted=2)
    assert ([], []) == (unsent_ids(stream), stream.take_due_drafts())


def test_without_a_window_nothing_is_drafted() -> None:
    stream = running(draft_length=0, window=0)
    read(stream)
    assert None is stream.next_step()


def test_a_draft_goes_early_when_it_would_miss_the_next_round() -> None:
    stream = running(draft_length=0, window=8)
    verdict(stream, 21, draft_length=0, window=8, now=1.0)  # the second verdict, after 1 s
    assert [] == draft(stream, 31, seconds=0.1, now=1.5)
    assert [(2, [31, 32])] == contents(draft(stream, 32, seconds=0.1, now=1.95))
    assert [] == draft(stream, 33, now=2.5)


def test_a_draft_that_the_verifier_waits_for_goes_whole() -> None:
    stream = running(draft_length=3, window=8)
    verdict(stream, 21, draft_length=3, window=8, now=1.0)
    assert [] == draft(stream, 31, seconds=0.1, now=1.5)
    assert [] == draft(stream, 32, seconds=0.1, now=1.95)
    assert [(2, [31, 32, 33])] == contents(draft(stream, 33, seconds=0.1, now=2.5))


def test_a_board_that_is_not_sure_sends_what_it_has_and_stops_until_the_next_verdict() -> None:
    stream = running()
    assert [(1, [31])] == contents(draft(stream, 31, None))
    assert None is stream.next_step()
    verdict(stream, 32, accepted=1)
    assert 3 == draw_step(stream)[1].position


def test_a_board_that_is_not_sure_at_all_passes() -> None:
    stream = running()
    assert [(1, [])] == contents(draft(stream, None))
    assert stream.path.has_passed


def test_a_board_that_is_not_sure_behind_its_draft_says_nothing() -> None:
    stream = running()
    draft(stream, 31, 32, 33)
    assert [] == draft(stream, None)


def test_after_a_stop_the_newest_token_is_fed_again() -> None:
    stream = running(draft_length=2, window=6)
    draft(stream, 31, 32, None)  # 32 was fed before the model hesitated
    verdict(stream, accepted=1)
    step, spec = draw_step(stream)
    assert (7, (32,), 3) == (step.num_kept_tokens, step.token_ids, spec.position)


def test_drafting_ends_at_the_boards_context() -> None:
    stream = running(context_tokens=8, draft_length=2)
    assert [(1, [31, 32])] == contents(draft(stream, 31, 32))
    assert None is stream.next_step()


# --- verdicts -------------------------------------------------------------------------------------


def test_accepted_drafts_and_the_targets_own_token_are_committed() -> None:
    stream = running()
    draft(stream, 31, 32, 33)
    committed = verdict(stream, 40, accepted=2)
    assert Committed((31, 32, 40), 2, 3, num_dead=1, num_survived=2) == committed
    assert ([20, 31, 32, 40], []) == (stream.output_ids, live_ids(stream))
    assert (4, 8) == (stream.path.base, stream.feed.num_fed_tokens)
    step, _ = draw_step(stream)
    assert (8, (40,)) == (step.num_kept_tokens, step.token_ids)


def test_a_draft_accepted_whole_kills_nothing() -> None:
    stream = running()
    draft(stream, 31, 32, 33)
    assert Committed((31, 32, 33, 40), 3, 3, 0, 3) == verdict(stream, 40, accepted=3)


def test_own_tokens_of_the_target_strike_late_drafts_off() -> None:
    stream = running()
    draft(stream, 31, 32, 33)
    assert Committed((31,), 0, 0, 0, 1) == verdict(stream, 31)
    assert ([32, 33], 0) == (live_ids(stream), stream.path.base)


def test_a_bonus_that_was_drafted_ahead_goes_on() -> None:
    stream = running(draft_length=3, window=8)
    draft(stream, 31, 32, 33, 34, 35)
    verdict(stream, 34, accepted=3, draft_length=3, window=8)
    assert ([], [35]) == (live_ids(stream), unsent_ids(stream))
    assert [(5, [35, 36, 37])] == contents(draft(stream, 36, 37))


def test_an_unsent_token_that_differs_goes_with_all_behind_it() -> None:
    stream = running(draft_length=3, window=8)
    draft(stream, 31, 32, 33, 34, 35)
    before = stream.path.base
    verdict(stream, 99, accepted=3, draft_length=3, window=8)
    assert ([], before) == (unsent_ids(stream), stream.path.base)
    step, spec = draw_step(stream)
    assert (9, (99,), 5) == (step.num_kept_tokens, step.token_ids, spec.position)


def test_a_target_that_is_faster_overtakes_the_draft() -> None:
    stream = running(draft_length=3)
    draft(stream, 31)
    stream.commit_verdict(Verdict(4, 1, 0, pack_token_ids([31, 32]), 6, 3), 0.0)
    assert [] == unsent_ids(stream)
    assert 3 == draw_step(stream)[1].position


def test_struck_tokens_take_their_time_with_them() -> None:
    stream = running(draft_length=3)
    draft(stream, 31, 32, seconds=0.4)
    verdict(stream, 31)
    (sent,) = draft(stream, 33, 34, seconds=0.1)
    assert [(2, [32, 33, 34])] == contents([sent])
    assert 600 == sent.drafting_milliseconds


def test_a_verdict_that_asks_for_less_makes_the_draft_due() -> None:
    stream = running(draft_length=4, window=8)
    draft(stream, 31, 32)
    assert [] == stream.take_due_drafts()
    verdict(stream, 31, draft_length=1, window=2)
    assert [(2, [32])] == contents(stream.take_due_drafts())


def test_a_coupled_draft_survives_the_loss_of_its_window() -> None:
    stream = running(draft_length=4, window=8)
    draft(stream, 31, 32)
    verdict(stream, 31, draft_length=0, window=0)
    assert [(2, [32])] == contents(stream.take_due_drafts())


def test_a_verdict_at_the_wrong_place_is_an_error() -> None:
    with pytest.raises(RemoteProtocolError, match="verdict at 5, not at 1"):
        running().commit_verdict(Verdict(4, 5, 0, b""), 0.0)


def test_a_verdict_cannot_accept_what_was_not_sent() -> None:
    stream = running()
    draft(stream, 31, 32)
    with pytest.raises(RemoteProtocolError, match="accepts 1 tokens of 0 sent"):
        verdict(stream, 40, accepted=1)


def test_after_the_last_verdict_nothing_more_is_computed_or_sent() -> None:
    stream = running()
    draft(stream, 31, 32)
    verdict(stream, 31, window=0, draft_length=0, finish=Finish("length", 10))
    assert ([], None) == (stream.take_due_drafts(), stream.next_step())


# --- steps that were overtaken --------------------------------------------------------------------


def test_a_draw_on_a_dead_path_is_dropped_with_what_was_fed() -> None:
    stream = running()
    draft(stream, 31, 32, 33)
    step, _ = draw_step(stream)
    verdict(stream, 40)
    assert [] == stream.record_step(step, DraftToken(34), 0.1, 0.0)
    assert ([], 6) == (unsent_ids(stream), stream.feed.num_fed_tokens)


def test_a_draw_for_a_position_that_was_decided_is_dropped_but_its_feed_counts() -> None:
    stream = running()
    draft(stream, 31, 32, 33)
    step, _ = draw_step(stream)
    verdict(stream, 40, accepted=3)
    assert [] == stream.record_step(step, DraftToken(34), 0.1, 0.0)
    assert ([], 9) == (unsent_ids(stream), stream.feed.num_fed_tokens)
    following, _ = draw_step(stream)
    assert (40,) == following.token_ids


def test_a_draw_that_is_still_wanted_goes_on_after_a_verdict() -> None:
    stream = running(window=8)
    draft(stream, 31, 32, 33)
    step, _ = draw_step(stream)
    verdict(stream, 32, accepted=1, window=8)
    stream.record_step(step, DraftToken(34), 0.1, 5.0)
    assert ([33], [34]) == (live_ids(stream), unsent_ids(stream))


# --- rejection ------------------------------------------------------------------------------------


def test_only_what_both_sides_draw_uses_the_streams_own_noise() -> None:
    stream = running("rejection", draft_length=2, window=7)
    seeds = [draw_step(stream)[1].seed]
    draft(stream, 31, 32)
    seeds.append(draw_step(stream)[1].seed)  # a guess
    draft(stream, 33)
    seeds.append(draw_step(stream)[1].seed)
    verdict(stream, 40)  # another path
    seeds.append(draw_step(stream)[1].seed)
    assert [path_seed(7, 0), 7, path_seed(7, 0), path_seed(7, 2)] == seeds


def test_a_chunk_has_a_row_for_every_token() -> None:
    stream = running("rejection")
    (sent,) = draft(stream, 31, 32, 33)
    assert [(1, [31, 32, 33])] == contents([sent])
    assert 3 == len(unpack_rows(sent.rows, 100))
    assert [False, False, True] == [token.ends_chunk for token in stream.path.live]


def test_past_a_chunk_comes_a_guess_and_the_next_chunk() -> None:
    stream = running("rejection", draft_length=3, window=7)
    draft(stream, 31, 32, 33)
    _, spec = draw_step(stream)
    assert (True, 0.0, 4) == (spec.is_guess, spec.confidence_stop, spec.position)
    assert [] == draft(stream, 34, 35, 36)
    (sent,) = draft(stream, 37)
    assert [(4, [34, 35, 36, 37])] == contents([sent])
    assert 3 == len(unpack_rows(sent.rows, 100))
    assert None is stream.next_step()


@pytest.mark.parametrize(
    ("window", "expected"),
    [(3, []), (4, []), (5, [(4, [34, 35])]), (6, [(4, [34, 35, 36])])],
)
def test_a_guess_needs_a_token_behind_it(
    window: int, expected: list[tuple[int, list[int]]]
) -> None:
    stream = running("rejection", draft_length=3, window=window)
    draft(stream, 31, 32, 33)
    sent = []
    for token_id in range(34, 40):
        if stream.next_step() is None:
            break
        sent += draft(stream, token_id)
    assert (expected, None) == (contents(sent), stream.next_step())


def test_a_right_guess_makes_the_next_chunk_live() -> None:
    stream = running("rejection", draft_length=3, window=7)
    draft(stream, 31, 32, 33, 34, 35)
    verdict(stream, 34, accepted=3, window=7)
    assert [35] == unsent_ids(stream)
    assert [(5, [35, 36, 37])] == contents(draft(stream, 36, 37))


def test_a_right_guess_alone_begins_a_new_chunk() -> None:
    stream = running("rejection", draft_length=3, window=7)
    draft(stream, 31, 32, 33, 34)
    verdict(stream, 34, accepted=3, draft_length=2, window=7)
    assert not draw_step(stream)[1].is_guess
    assert [(5, [36, 37])] == contents(draft(stream, 36, 37))


def test_a_wrong_guess_ends_the_chunk() -> None:
    stream = running("rejection", draft_length=3, window=7)
    draft(stream, 31, 32, 33, 34, 35)
    verdict(stream, 99, accepted=3, window=7)
    assert [] == unsent_ids(stream)
    assert [(5, [36, 37, 38])] == contents(draft(stream, 36, 37, 38))


def test_a_chunk_that_was_begun_is_finished_though_the_window_shrank() -> None:
    stream = running("rejection", draft_length=3, window=7)
    draft(stream, 31, 32, 33, 34, 35)
    verdict(stream, 34, accepted=3, draft_length=1, window=1)
    assert [(5, [35, 36, 37])] == contents(draft(stream, 36, 37))


def test_a_chunk_that_is_cut_at_the_verifier_stays_live() -> None:
    stream = running("rejection", draft_length=3, window=7)
    draft(stream, 31, 32, 33)
    assert Committed((31, 32), 2, 2, 0, 2) == verdict(stream, accepted=2, window=7)
    assert [33] == live_ids(stream)


def test_a_sampled_chunk_is_cut_by_a_stop_and_sent() -> None:
    stream = running("rejection")
    assert [(1, [31, 32])] == contents(draft(stream, 31, 32, None))


def test_a_guess_is_not_sent_alone() -> None:
    stream = running("rejection", draft_length=3, window=7)
    draft(stream, 31, 32, 33)
    assert [] == draft(stream, 34, None)
    assert ([], [31, 32, 33]) == (unsent_ids(stream), live_ids(stream))


def test_after_a_pass_nothing_is_drawn_for_that_position() -> None:
    """A draft behind the pass might come late, and its lateness might depend on it."""
    stream = running("rejection", prompt_ids=tuple(range(1, 31)), prefill_chunk_tokens=16)
    assert [(1, [])] == contents(stream.restart_feeding())
    read(stream)
    assert None is stream.next_step()
    verdict(stream, 21)
    assert 2 == draw_step(stream)[1].position


def test_nothing_is_due_early_in_rejection() -> None:
    stream = running("rejection", draft_length=4, window=9)
    draft(stream, 31, 32)
    verdict(stream, 31, draft_length=1, window=2)  # after a timeout
    assert [] == stream.take_due_drafts()


def test_without_a_window_a_rejection_path_starts_over() -> None:
    stream = running("rejection", draft_length=3, window=7)
    draft(stream, 31, 32, 33, 34, 35)
    verdict(stream, accepted=2, draft_length=0, window=0)
    assert ([], []) == (live_ids(stream), unsent_ids(stream))
    assert (3, 4, 8) == (len(stream.output_ids), stream.path.base, stream.feed.num_fed_tokens)
    verdict(stream, 40, draft_length=3, window=7)
    (sent,) = draft(stream, 41, 42, 43)
    assert (4, 4) == (sent.base, sent.position)


@pytest.mark.parametrize("mode", ["coupled", "rejection"])
def test_a_board_that_lost_its_window_says_again_that_it_is_there(mode: AcceptanceMode) -> None:
    stream = running(mode)
    assert not stream.take_ready()
    verdict(stream, 21, window=0)
    read(stream)
    assert stream.take_ready()
    verdict(stream, 22, window=0)
    assert not stream.take_ready()


# --- a draft model that fails or forgets ----------------------------------------------------------


def test_a_lost_slot_is_read_again_in_chunks() -> None:
    stream = running(prompt_ids=tuple(range(1, 31)), prefill_chunk_tokens=16)
    draft(stream, 31)
    stream.restart_feeding()
    step = stream.next_step()
    assert step is not None
    assert (0, tuple(range(1, 17)), None) == (step.num_kept_tokens, step.token_ids, step.spec)
    read(stream)
    step, _ = draw_step(stream)
    assert (31,) == step.token_ids[-1:]


def test_a_short_stream_is_read_again_in_one_step() -> None:
    stream = running("rejection")
    assert [] == stream.restart_feeding()
    step, spec = draw_step(stream)
    assert (0, (*PROMPT, 20), 1) == (step.num_kept_tokens, step.token_ids, spec.position)


def test_what_was_computed_for_a_lost_slot_is_dropped() -> None:
    stream = running()
    step, _ = draw_step(stream)
    stream.restart_feeding()
    assert [] == stream.record_step(step, DraftToken(31), 0.1, 0.0)
    assert 0 == stream.feed.num_fed_tokens


def test_a_board_that_must_read_first_sends_what_it_has() -> None:
    stream = running("rejection", prompt_ids=tuple(range(1, 31)), prefill_chunk_tokens=16)
    draft(stream, 31, 32)
    assert [(1, [31, 32])] == contents(stream.restart_feeding())


def test_a_board_that_must_read_first_passes_verdict_after_verdict() -> None:
    stream = running("rejection", prompt_ids=tuple(range(1, 31)), prefill_chunk_tokens=16)
    assert [(1, [])] == contents(stream.restart_feeding())
    verdict(stream, 21)
    assert [(2, [])] == contents(stream.take_due_drafts())
    assert [] == stream.take_due_drafts()
    read(stream)
    verdict(stream, 22)
    assert [] == stream.take_due_drafts()
    assert [(3, [31, 32, 33])] == contents(draft(stream, 31, 32, 33))


def test_without_a_window_nobody_waits_for_a_pass() -> None:
    stream = running(prompt_ids=tuple(range(1, 31)), prefill_chunk_tokens=16, window=0)
    assert [] == stream.restart_feeding()


def test_a_failure_stops_drafting_until_the_next_verdict() -> None:
    stream = running("rejection")
    step, _ = draw_step(stream)
    assert [(1, [])] == contents(stream.record_failure(step))
    assert None is stream.next_step()
    verdict(stream, 21)
    step, spec = draw_step(stream)
    assert (0, (*PROMPT, 20, 21), 2) == (step.num_kept_tokens, step.token_ids, spec.position)


def test_a_failure_in_a_chunk_sends_what_was_drawn() -> None:
    stream = running("rejection")
    draft(stream, 31, 32)
    step, _ = draw_step(stream)
    assert [(1, [31, 32])] == contents(stream.record_failure(step))


def test_a_failure_on_the_prompt_is_silent_and_waits_for_a_verdict() -> None:
    stream = open_stream()
    step = stream.next_step()
    assert step is not None
    assert ([], None) == (stream.record_failure(step), stream.next_step())
    verdict(stream, 20, window=0)
    assert None is not stream.next_step()


def test_a_failure_that_a_verdict_overtook_is_tried_again() -> None:
    stream = running()
    draft(stream, 31, 32, 33)
    step, _ = draw_step(stream)
    verdict(stream, 40)
    assert [] == stream.record_failure(step)
    assert None is not stream.next_step()


# --- another connection ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["coupled", "rejection"])
def test_a_reopened_stream_keeps_its_output_and_nothing_of_its_drafts(mode: AcceptanceMode) -> None:
    stream = running(mode)
    draft(stream, 31, 32, 33)
    verdict(stream, 40, accepted=1)
    draft(stream, 51, 52)
    step, _ = draw_step(stream)
    stream.reopen(9)
    assert (9, [20, 31, 40], 3) == (stream.channel, stream.output_ids, stream.path.base)
    assert ([], [], 0, 8) == (
        live_ids(stream),
        unsent_ids(stream),
        stream.window,
        stream.feed.num_fed_tokens,
    )
    assert [] == stream.record_step(step, DraftToken(53), 0.1, 0.0)


def test_a_reopened_stream_is_ready_only_when_the_verifier_knows_it() -> None:
    stream = running()
    stream.reopen(9)
    verdicts = [stream.take_ready()]
    stream.start(opened("coupled"))
    verdicts.append(stream.take_ready())
    assert [False, True] == verdicts


def test_a_reopened_stream_drafts_from_its_first_verdict_on() -> None:
    stream = running()
    draft(stream, None)
    stream.reopen(9)
    stream.start(opened("coupled"))
    assert None is stream.next_step()
    verdict(stream, 21)
    (sent,) = draft(stream, 31, 32, 33)
    assert (9, 1, 2) == (sent.channel, sent.base, sent.position)


def test_a_lost_link_is_no_slow_round() -> None:
    stream = running()
    verdict(stream, 21, now=1.0)
    stream.reopen(9)
    stream.start(opened("coupled"))
    verdict(stream, 22, draft_length=0, now=500.0)
    draft(stream, 31, now=500.99)
    assert [(3, [31, 32])] == contents(draft(stream, 32, now=501.0))


def test_two_streams_are_never_equal() -> None:
    assert make_stream() != make_stream()
