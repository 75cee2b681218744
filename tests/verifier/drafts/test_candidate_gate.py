"""A candidate that is worse anywhere is not offered."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.drafts.candidate_gate import LEAST_TEXTS, mean_gain, refusal
from verifier.drafts.tuning_job import SEEN, HeldOutPair


def pairs(seed: int = 1, number: int = 12, **gains: float) -> list[HeldOutPair]:
    """Texts of each domain, whose acceptance changes by so much and a little more or less."""
    random = Random(seed)
    found = []
    for domain, gain in gains.items():
        for _ in range(number):
            before = random.uniform(0.4, 0.6)
            found.append(HeldOutPair(domain, before, before + gain + random.gauss(0, 0.01)))
    return found


def test_a_better_one_is_offered() -> None:
    good = pairs(seen=0.1, self=0.01, code=0.02)
    assert None is refusal(good)
    assert pytest.approx(0.1, abs=0.02) == mean_gain(good)


def test_a_planted_bad_one_is_refused() -> None:
    for bad in (pairs(seen=-0.3, self=-0.3), pairs(seen=-0.05, self=0.1)):
        assert "accepted less in the domain seen" in str(refusal(bad))


def test_what_is_learned_at_the_cost_of_another_domain_is_refused() -> None:
    assert "accepted less in the domain code" in str(refusal(pairs(seen=0.2, self=0.1, code=-0.1)))
    slightly = pairs(number=200, seen=0.2, self=-0.01)
    assert "accepted less in the domain self" in str(refusal(slightly)), "it is proven"


def test_a_loss_that_is_large_counts_however_wide_its_interval_is() -> None:
    wide = [
        *pairs(seen=0.1),
        *(HeldOutPair("self", 0.5, after) for after in (0.9, 0.1, 0.3)),
    ]
    assert "accepted less in the domain self" in str(refusal(wide))


def test_no_gain_where_it_was_tuned_for_is_no_candidate() -> None:
    same = [HeldOutPair(domain, 0.5, 0.5) for domain in (SEEN, "self") for _ in range(5)]
    assert "not accepted more" in str(refusal(same))


def test_too_few_texts_prove_nothing() -> None:
    assert "prove nothing" in str(refusal([]))
    assert "0 held-out texts of the domain seen" in str(refusal(pairs(self=0.1)))
    assert "prove nothing" in str(refusal(pairs(number=LEAST_TEXTS - 1, seen=0.1)))


@pytest.mark.parametrize("after", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(after: float) -> None:
    assert "no number" in str(refusal([*pairs(seen=0.1), HeldOutPair(SEEN, 0.5, after)]))


rates = st.floats(0.0, 1.0)
found = st.lists(
    st.builds(HeldOutPair, domain=st.sampled_from([SEEN, "a", "b"]), before=rates, after=rates),
    max_size=40,
)


@given(found)
def test_whatever_is_offered_is_better_there_and_loses_little_elsewhere(
    pairs: list[HeldOutPair],
) -> None:
    if refusal(pairs) is None:
        assert mean_gain(pairs) > 0.0
        for domain in {pair.domain for pair in pairs}:
            assert mean_gain(pairs, domain) >= -0.02
