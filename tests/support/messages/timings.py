"""The timings of one generation, each number another one."""

from __future__ import annotations

from edge_agent.generation.generation import Timings

TIMINGS = Timings(
    prompt_tokens=10,
    cached_prefix_tokens=4,
    output_tokens=5,
    drafted_tokens=6,
    accepted_tokens=3,
    rejected_tokens=2,
    num_verdicts=2,
    num_drafting_verdicts=2,
    seconds_to_first_token=0.5,
    total_seconds=1.5,
    wire_bytes=60,
    survived_tokens=4,
    rejections=1,
)
