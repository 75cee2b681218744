"""How fast a stream was written while its board drafted."""

from __future__ import annotations

import pytest

from verifier.streams.draft_pace import LEAST_TOKENS, DraftPace


def test_rounds_that_gave_nothing_count_as_time() -> None:
    pace = DraftPace(b"a")
    for num_tokens in (8, 0, 12):
        pace.observe(num_tokens, 0.1)
    assert pytest.approx(20 / 0.3) == pace.tokens_per_second


def test_short_streams_say_nothing() -> None:
    pace = DraftPace(b"a")
    assert 0.0 == pace.tokens_per_second
    pace.observe(LEAST_TOKENS - 1, 0.1)
    assert 0.0 == pace.tokens_per_second
    pace.observe(1, 0.1)
    assert pace.tokens_per_second
