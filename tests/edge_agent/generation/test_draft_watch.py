"""A board sees for itself that a draft is worse than its own."""

from __future__ import annotations

from random import Random

import pytest

from edge_agent.generation.draft_watch import LEAST_TESTED, DraftWatch, StreamOutcome
from shared.speculation.draft_choice import LEAST_PAIRS, OWN

A = b"a"


def test_a_draft_that_is_hardly_ever_right_is_given_up() -> None:
    watch = DraftWatch()
    wrong = StreamOutcome(num_survived=1, num_rejected=49)
    said = [watch.observe(A, wrong) for _ in range(LEAST_TESTED // 50 + 1)]
    assert "2% of its tokens are accepted" in said
    assert said[0] is None, "few tokens are no proof"


def test_a_draft_that_is_right_is_kept_whatever_one_text_does() -> None:
    watch = DraftWatch()
    for _ in range(20):
        assert None is watch.observe(A, StreamOutcome(num_survived=30, num_rejected=20))
    assert None is watch.observe(A, StreamOutcome(num_survived=0, num_rejected=50))


@pytest.mark.parametrize("deviation", [0.0, 0.2])
def test_a_slower_draft_is_given_up_and_a_faster_one_kept(deviation: float) -> None:
    random = Random(1)
    for ratio, is_kept in ((0.5, False), (2.0, True)):
        watch, said = DraftWatch(), []
        for number in range(60):
            draft = (OWN, A, A, OWN)[number % 4]
            rate = 10.0 * (ratio if draft == A else 1.0) * 2.0 ** random.gauss(0.0, deviation)
            said.append(watch.observe(draft, StreamOutcome(rate, 5, 5)))
        assert is_kept == (set(said) == {None})
        if not is_kept:
            told = next(sentence for sentence in said if sentence)
            assert "slower with it than with the board's own" in told
            assert said.index(told) >= 2 * LEAST_PAIRS - 1


def test_its_own_draft_is_never_given_up_and_short_answers_say_nothing() -> None:
    watch = DraftWatch()
    for _ in range(100):
        assert None is watch.observe(OWN, StreamOutcome(1.0, 0, 100))
        assert None is watch.observe(A, StreamOutcome(0.0, 0, 0))


def test_what_is_assigned_anew_begins_anew() -> None:
    watch = DraftWatch()
    watch.observe(A, StreamOutcome(num_survived=0, num_rejected=LEAST_TESTED - 1))
    watch.forget_all_but(set())
    assert None is watch.observe(A, StreamOutcome(num_survived=0, num_rejected=1))
