from __future__ import annotations

from edge_agent.generation.figures import summarise
from edge_agent.generation.generation import Timings


def timings(output_tokens: int = 43, accepted_tokens: int = 30, num_verdicts: int = 10) -> Timings:
    return Timings(
        prompt_tokens=5,
        cached_prefix_tokens=0,
        output_tokens=output_tokens,
        drafted_tokens=45,
        accepted_tokens=accepted_tokens,
        rejected_tokens=12 if accepted_tokens else 0,
        num_verdicts=num_verdicts,
        num_drafting_verdicts=9,
        seconds_to_first_token=0.21,
        total_seconds=1.61,
        wire_bytes=520,
        survived_tokens=accepted_tokens,
        rejections=12 if accepted_tokens else 0,
    )


def test_the_summary_is_one_line_of_figures() -> None:
    expected = "30.0 tok/s · 4.3 tok/round · accepted 71 % · 12.1 B/token · first token 0.21 s"
    assert expected == summarise(timings())


def test_without_drafts_there_is_no_acceptance() -> None:
    assert "accepted" not in summarise(timings(accepted_tokens=0))


def test_without_tokens_only_the_wait_is_left() -> None:
    assert "first token 0.21 s" == summarise(
        timings(output_tokens=0, accepted_tokens=0, num_verdicts=0)
    )
