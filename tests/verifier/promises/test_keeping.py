"""What promises need of each round, and that so much is enough."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.promises.keeping import Promise, owed_tokens, rounds_between


@pytest.mark.parametrize(
    ("slo", "longest", "rounds"),
    [(0.1, 0.1, 1), (0.19, 0.1, 1), (0.3, 0.1, 2), (0.39, 0.1, 2), (1.0, 0.1, 9)],
)
def test_a_round_that_is_under_way_when_a_deadline_passes_does_not_count(
    slo: float, longest: float, rounds: int
) -> None:
    assert rounds == rounds_between(slo, longest)


def test_a_token_with_a_chunk_of_drafts_is_two() -> None:
    promises = [Promise(0.1), Promise(0.1, 2), Promise(0.3), Promise(0.3, 2)]
    assert owed_tokens(promises, 0.1) == 1 + 2 + 0.5 + 1


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.floats(1.0, 12.0), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_the_earliest_deadline_first_keeps_what_can_be_kept(slos: list[float], random) -> None:  # type: ignore[no-untyped-def]
    """Rounds of any length up to 1, each with as many tokens as the promises need together."""
    num_tokens = math.ceil(owed_tokens([Promise(slo) for slo in slos], 1.0) - 1e-9)
    dues = list(slos)
    now = 0.0
    for _ in range(200):
        now += random.choice([1.0, random.uniform(0.05, 1.0)])
        served = sorted(range(len(slos)), key=dues.__getitem__)[:num_tokens]
        for i in served:
            assert now <= dues[i] + 1e-9
            dues[i] += slos[i]
        assert min(dues) >= now - 1e-9
