"""Who is checked with whom."""

from __future__ import annotations

from verifier.reproduction.slo_batches.batch_rules import (
    AllThatWait,
    DeadlineBatches,
    OneByOne,
    OrderedBatches,
    Request,
)
from verifier.reproduction.slo_batches.ordered_batches import OrderedPlan

WAITING = [Request(1.0, 0, 5), Request(0.3, 1, 5), Request(9.0, 2, 5)]


def boards(batch: list[Request]) -> list[int]:
    return [request.board for request in batch]


def test_greedy_batches_hold_all_and_without_batches_it_is_the_first() -> None:
    assert [0, 1, 2] == boards(AllThatWait().next_batch(WAITING, {3}, 0.0))
    assert [0] == boards(OneByOne().next_batch(WAITING, {3}, 0.0))
    assert [] == OneByOne().next_batch([], {3}, 0.0)


def test_an_ordered_batch_waits_for_its_users_and_one_of_idle_users_is_passed_over() -> None:
    rule = OrderedBatches(OrderedPlan(((0, 3), (4,), (1, 2)), (1,) * 5, 0.0))
    assert [] == rule.next_batch(WAITING, {3}, 0.0)  # 3 still drafts
    assert [0] == boards(rule.next_batch(WAITING, set(), 0.0))  # 3 is idle
    assert [1, 2] == boards(rule.next_batch(WAITING[1:], set(), 0.0))  # and so is 4
    assert [] == rule.next_batch([], set(), 0.0)


def test_a_batch_by_deadlines_leaves_its_first_one_in_time() -> None:
    rule = DeadlineBatches(lambda num_tokens: 0.1 + 0.02 * num_tokens)
    # 5 tokens take 0.2 s, 10 take 0.3 s, 15 take 0.4 s.
    assert [1, 0] == boards(rule.next_batch(WAITING, set(), 0.0))
    assert [1] == boards(rule.next_batch(WAITING, set(), 0.05))


def test_what_is_late_anyway_goes_last_and_makes_no_batch_shorter() -> None:
    rule = DeadlineBatches(lambda num_tokens: 0.1 + 0.02 * num_tokens)
    assert [0, 2, 1] == boards(rule.next_batch(WAITING, set(), 0.5))
    assert [0, 2] == boards(rule.next_batch(WAITING, set(), 0.65))
