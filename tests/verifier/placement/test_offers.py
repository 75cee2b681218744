"""What workers offer is what their planners hold: streams, room, and how much of a prompt."""

from __future__ import annotations

from tests.support.ends.planning import add, make_planner, make_stream, play
from verifier.placement.offers import cached_tokens, offer_of, offers_to

PROMPT = tuple(range(10, 90))


def test_a_prompt_is_found_where_it_was_read_and_for_its_device_alone() -> None:
    planners = {0: make_planner(), 1: make_planner()}
    first = make_stream(1, prompt_ids=PROMPT)
    add(planners[1], first)
    for _ in range(3):
        play(planners[1])
    for stream, expected in (
        (make_stream(2, prompt_ids=PROMPT), 80),
        (make_stream(3, prompt_ids=PROMPT[:41]), 40),
        (make_stream(4, prompt_ids=PROMPT, device="another"), 0),
        (make_stream(5, prompt_ids=(1, *PROMPT)), 0),
    ):
        assert {0: 0, 1: expected} == cached_tokens(stream, planners)


def test_an_offer_counts_streams_with_and_without_a_place() -> None:
    planner = make_planner(num_blocks=12, reserved_output_tokens=3)
    streams = [make_stream(n, prompt_ids=tuple(range(14))) for n in range(1, 4)]
    add(planner, *streams)
    play(planner)
    offer = offer_of(0, planner)
    assert planner.queue
    assert 3 == offer.num_streams
    assert sum(stream.num_tokens for stream in streams) == offer.context_tokens
    assert 4 * planner.blocks.num_free_blocks == offer.num_free_tokens


def test_a_worker_into_whose_cache_a_stream_never_fits_offers_nothing() -> None:
    planners = {0: make_planner(num_blocks=4), 1: make_planner(num_blocks=100)}
    stream = make_stream(1, prompt_ids=PROMPT)
    assert [1] == [offer.worker for offer in offers_to(stream, planners)]
