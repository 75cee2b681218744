"""One stream of a load test against a script of messages."""

from __future__ import annotations

from random import Random

import pytest

from edge_agent.drafting.draw_spec import DrawSpec
from edge_agent.fleet.stream import FleetStream
from edge_agent.fleet.tally import FleetTally
from edge_agent.fleet.workload import FleetLoad
from shared.errors import RemoteProtocolError
from shared.protocol.draft_path import DraftToken
from shared.protocol.messages import MAX_POSITION, Draft, Error, Finish, Open, Opened, Verdict
from shared.protocol.token_ids import pack_token_ids, unpack_token_ids

VOCAB_SIZE = 64
LOAD = FleetLoad(prompt_tokens=4, output_tokens=20)


def opened(tally: FleetTally, now: float = 0.0) -> FleetStream:
    """A stream of board 1 that runs since `now`; its draft model always says token 9."""
    request = LOAD.draw_request(Random(1), VOCAB_SIZE, frozenset())
    stream = FleetStream(request, LOAD, VOCAB_SIZE, tally, board=1, now=now)
    open_again(stream, 0, now)
    return stream


def open_again(stream: FleetStream, channel: int, now: float) -> Open:
    """Open it on a channel; what the verifier was asked."""
    message = stream.open_message(channel)
    assert isinstance(message, Open)
    receive(stream, Opened(channel, message.prompt, seed=1, acceptance_mode="coupled"), now)
    return message


def receive(stream: FleetStream, message: Opened | Verdict | Error, now: float) -> None:
    stream.receive(message, 20, now)


def verdict(position: int, *own: int, num_accepted: int = 0, window: int = 0) -> Verdict:
    return Verdict(0, position, num_accepted, pack_token_ids(own), window)


def nine(tokens: object, spec: DrawSpec) -> DraftToken:
    return DraftToken(9)


def draft(stream: FleetStream, now: float) -> list[Draft]:
    """Let the board compute until it has nothing to do; what it sent."""
    drafts: list[Draft] = []
    while (step := stream.stream.next_step()) is not None:
        for made in stream.finish_step(step, nine, seconds=0.01, now=now):
            stream.record_sent(made, 12, now)
            drafts.append(made)
    return drafts


def test_the_first_verdict_ends_the_wait_for_the_first_token() -> None:
    tally = FleetTally(num_boards=2, now=0.0)
    stream = opened(tally, now=1.0)
    receive(stream, verdict(0, 5), now=3.0)
    receive(stream, verdict(1, 6), now=3.5)
    assert (1, 1) == (tally.first_token.num_samples, tally.pause.num_samples)
    assert pytest.approx(2.0, rel=0.02) == tally.first_token.quantile(0.5)
    assert pytest.approx(0.5, rel=0.02) == tally.pause.quantile(0.5)
    assert [0, 2] == tally.tokens_of_board


def test_a_draft_waits_for_the_verdict_that_decides_its_first_token() -> None:
    tally = FleetTally(num_boards=2, now=0.0)
    stream = opened(tally)
    receive(stream, verdict(0, 5, window=2), now=1.0)
    (sent,) = draft(stream, now=1.1)
    assert [9, 9] == unpack_token_ids(sent.tokens, VOCAB_SIZE).tolist()
    receive(stream, verdict(1, 7, num_accepted=1), now=1.4)
    assert (2, 1, 1, 1) == (
        tally.counts.drafted_tokens,
        tally.counts.accepted_tokens,
        tally.counts.survived_tokens,
        tally.counts.rejections,
    )
    assert pytest.approx(0.3, rel=0.02) == tally.verdict.quantile(1.0)


def test_a_verdict_with_a_finish_ends_the_stream() -> None:
    stream = opened(FleetTally(num_boards=2, now=0.0))
    assert not stream.is_over
    receive(stream, Verdict(0, 0, 0, pack_token_ids([0]), finish=Finish("end", 0)), now=1.0)
    assert stream.is_over


def test_it_is_opened_again_with_what_was_committed() -> None:
    tally = FleetTally(num_boards=2, now=0.0)
    stream = opened(tally)
    receive(stream, verdict(0, 5, 6, window=4), now=1.0)
    draft(stream, now=1.0)
    again = open_again(stream, 3, now=9.5)
    assert 3 == again.channel
    assert [5, 6] == unpack_token_ids(again.committed, VOCAB_SIZE).tolist()
    receive(stream, Verdict(3, 2, 0, pack_token_ids([7])), now=10.0)
    # The time without a link is nobody's latency.
    assert (1, 0, 0) == (
        tally.first_token.num_samples,
        tally.pause.num_samples,
        tally.verdict.num_samples,
    )


def test_a_verdict_that_does_not_continue_the_stream_is_refused() -> None:
    stream = opened(FleetTally(num_boards=2, now=0.0))
    with pytest.raises(RemoteProtocolError, match="verdict at 3, not at 0"):
        receive(stream, verdict(3, 5), now=1.0)


def test_no_link_draws_with_the_noise_of_an_earlier_one() -> None:
    """As in a real agent: what became of the drafts before may have taught the scheduler."""
    stream = opened(FleetTally(num_boards=2, now=0.0))
    salts = [stream.stream.salt]
    for channel in (1, 2):
        open_again(stream, channel, now=1.0)
        salts.append(stream.stream.salt)
    assert [0, 2 * MAX_POSITION, 4 * MAX_POSITION] == salts


def test_it_is_opened_again_with_the_seed_and_the_mode_that_the_verifier_chose() -> None:
    stream = opened(FleetTally(num_boards=2, now=0.0))
    again = open_again(stream, 1, now=1.0)
    assert (1, "coupled", LOAD.output_tokens) == (
        again.seed,
        again.acceptance_mode,
        again.max_tokens,
    )


def test_a_refused_stream_is_over_and_counted_by_its_sentence() -> None:
    tally = FleetTally(num_boards=2, now=0.0)
    stream = opened(tally)
    receive(stream, Error("limit", "too many streams", 0), now=1.0)
    assert (True, {"too many streams": 1}) == (stream.is_over, dict(tally.errors))


def test_a_stream_that_cannot_go_on_is_counted_like_a_clients_error() -> None:
    tally = FleetTally(num_boards=2, now=0.0)
    stream = opened(tally)
    stream.break_off(RemoteProtocolError("verdict at 3, not at 0"))
    sentence = "the verifier broke the protocol: verdict at 3, not at 0"
    assert (True, {sentence: 1}) == (stream.is_over, dict(tally.errors))
