from __future__ import annotations

import math

import pytest

from edge_agent.generation.generation import Timings
from tests.demo.chats import read_prompts
from tests.demo.figures import (
    Scrape,
    board_figures,
    num_same,
    pass_figures,
    read_scrape,
    speed,
)
from verifier.engine.metrics import Metrics

PAGE = """\
# TYPE goodspeed_goodput_tokens_total counter
goodspeed_goodput_tokens_total{device="board-a"} 40.0
goodspeed_goodput_tokens_total{device="board-b"} 20.0
# TYPE goodspeed_spec_decode_num_drafts_total counter
goodspeed_spec_decode_num_drafts_total{device="board-a"} 5.0
# TYPE goodspeed_spec_decode_num_draft_tokens_total counter
goodspeed_spec_decode_num_draft_tokens_total{device="board-a"} 30.0
# TYPE goodspeed_draft_length gauge
goodspeed_draft_length{device="board-a"} 8.0
# TYPE goodspeed_acceptance_estimate gauge
goodspeed_acceptance_estimate{device="board-a"} 0.95
# TYPE goodspeed_round_seconds histogram
goodspeed_round_seconds_bucket{le="+Inf",phase="total"} 10.0
goodspeed_round_seconds_count{phase="total"} 10.0
goodspeed_round_seconds_sum{phase="total"} 0.5
goodspeed_round_seconds_count{phase="forward"} 10.0
goodspeed_round_seconds_sum{phase="forward"} 0.4
# TYPE goodspeed_batch_tokens histogram
goodspeed_batch_tokens_count 10.0
goodspeed_batch_tokens_sum 90.0
"""


def timings(
    *,
    output_tokens: int = 20,
    survived: int = 0,
    rejections: int = 0,
    num_verdicts: int = 10,
    first_token_seconds: float = 0.5,
    total_seconds: float = 2.0,
    wire_bytes: int = 1000,
) -> Timings:
    return Timings(
        prompt_tokens=7,
        cached_prefix_tokens=0,
        output_tokens=output_tokens,
        drafted_tokens=0,
        accepted_tokens=0,
        rejected_tokens=0,
        num_verdicts=num_verdicts,
        num_drafting_verdicts=0,
        seconds_to_first_token=first_token_seconds,
        total_seconds=total_seconds,
        wire_bytes=wire_bytes,
        survived_tokens=survived,
        rejections=rejections,
    )


def scrape(
    at_seconds: float = 0.0,
    tokens: dict[str, float] | None = None,
    num_rounds: float = 0.0,
    round_seconds: float = 0.0,
    round_tokens: float = 0.0,
    num_drafts: float = 0.0,
    num_drafted: float = 0.0,
) -> Scrape:
    return Scrape(
        at_seconds=at_seconds,
        output_tokens=tokens or {},
        drafts={"board-a": num_drafts},
        drafted_tokens={"board-a": num_drafted},
        draft_lengths={},
        acceptance_estimates={},
        num_rounds=num_rounds,
        round_seconds=round_seconds,
        round_tokens=round_tokens,
    )


def test_a_page_of_metrics_is_read() -> None:
    expected = Scrape(
        at_seconds=3.0,
        output_tokens={"board-a": 40.0, "board-b": 20.0},
        drafts={"board-a": 5.0},
        drafted_tokens={"board-a": 30.0},
        draft_lengths={"board-a": 8.0},
        acceptance_estimates={"board-a": 0.95},
        num_rounds=10.0,
        round_seconds=0.5,
        round_tokens=90.0,
    )
    assert expected == read_scrape(PAGE, 3.0)


def test_the_first_page_of_a_verifier_has_every_total() -> None:
    """The demo and the verifier agree about names; without a round, all counts are 0."""
    assert scrape(1.0).num_rounds == read_scrape(Metrics().page().decode(), 1.0).num_rounds


def test_acceptance_is_over_the_positions_that_all_answers_reached() -> None:
    given = [timings(survived=9, rejections=1), timings(survived=0, rejections=10)]
    assert 0.45 == board_figures(given, "board-a", scrape(), scrape()).acceptance


def test_without_drafts_there_is_no_acceptance_and_no_draft_length() -> None:
    figures = board_figures([timings()], "board-a", scrape(), scrape())
    assert (None, None) == (figures.acceptance, figures.draft_length)


def test_draft_length_is_of_the_drafts_between_the_scrapes() -> None:
    before = scrape(num_drafts=5, num_drafted=100)
    after = scrape(num_drafts=15, num_drafted=160)
    assert 6.0 == board_figures([timings()], "board-a", before, after).draft_length


def test_speeds_and_bytes_weigh_every_token_alike() -> None:
    given = [
        timings(output_tokens=90, num_verdicts=30, total_seconds=2.0, wire_bytes=900),
        timings(output_tokens=10, num_verdicts=10, total_seconds=3.0, wire_bytes=1100),
    ]
    figures = board_figures(given, "board-a", scrape(), scrape())
    assert 2.5 == figures.tokens_per_round
    assert 20.0 == figures.tokens_per_second
    assert 20.0 == figures.wire_bytes_per_token


def test_the_time_to_first_token_is_the_median() -> None:
    given = [timings(first_token_seconds=seconds) for seconds in (0.3, 9.0, 0.4)]
    assert 0.4 == board_figures(given, "board-a", scrape(), scrape()).first_token_seconds


def test_all_boards_are_counted_between_two_scrapes() -> None:
    before = scrape(10.0, {"board-a": 100.0}, num_rounds=50, round_seconds=5, round_tokens=500)
    after = scrape(
        20.0,
        {"board-a": 140.0, "board-b": 20.0},
        num_rounds=60,
        round_seconds=6,
        round_tokens=580,
    )
    figures = pass_figures(["board-a", "board-b"], before, after)
    assert 6.0 == figures.tokens_per_second
    assert 0.9 == pytest.approx(figures.jain_index)  # (4 + 2)² / (2 · (16 + 4))
    assert math.log(4) + math.log(2) == pytest.approx(figures.log_goodput)
    assert 0.1 == pytest.approx(figures.seconds_per_round)
    assert 8.0 == figures.tokens_per_round


def test_a_pass_without_a_round_has_a_speed_of_zero() -> None:
    figures = pass_figures(["board-a"], scrape(1.0), scrape(2.0))
    assert (0.0, 0.0, 0.0) == (
        figures.tokens_per_second,
        figures.seconds_per_round,
        figures.tokens_per_round,
    )


def test_the_speed_between_two_scrapes_is_tokens_over_seconds() -> None:
    assert 5.0 == speed(scrape(1.0, {"a": 10.0}), scrape(3.0, {"a": 20.0}), "a")


def test_the_speed_at_one_moment_is_zero() -> None:
    assert 0.0 == speed(scrape(1.0, {"a": 10.0}), scrape(1.0, {"a": 10.0}), "a")


def test_answers_are_compared_letter_for_letter() -> None:
    assert 1 == num_same(("yes", "no"), ("yes", "No"))


def test_every_prompt_names_its_source_and_no_two_are_the_same() -> None:
    prompts = read_prompts()
    assert len(prompts) == len({prompt.id for prompt in prompts})
    assert all(prompt.source and prompt.domain and prompt.content for prompt in prompts)


def test_boards_that_chat_together_are_in_different_domains() -> None:
    domains = [prompt.domain for prompt in read_prompts()]
    for first in range(0, 9, 3):
        assert 3 == len(set(domains[first : first + 3]))
