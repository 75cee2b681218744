"""What a load test counts, and what it makes of it."""

from __future__ import annotations

import pytest

from edge_agent.fleet.tally import MAX_SENTENCES, OTHER_ERRORS, FleetTally


def test_speeds_are_tokens_over_the_measured_time() -> None:
    tally = FleetTally(num_boards=4, now=10.0)
    for board, num_tokens in enumerate((10, 20, 30, 40)):
        tally.record_tokens(board, num_tokens)
    report = tally.report(now=20.0)
    assert 10.0 == report.seconds
    assert 10.0 == report.tokens_per_second
    expected = {"p1": 1.0, "p10": 1.0, "p50": 2.0, "p90": 4.0, "p99": 4.0}
    assert expected == report.board_tokens_per_second
    assert pytest.approx(100**2 / (4 * 3000)) == report.jain_fairness


def test_a_fleet_that_got_nothing_is_even() -> None:
    report = FleetTally(num_boards=2, now=0.0).report(now=1.0)
    assert (1.0, 0.0, None) == (report.jain_fairness, report.tokens_per_second, report.acceptance)
    assert (0, None, None) == (
        report.first_token.num_samples,
        report.first_token.p50,
        report.first_token.p99,
    )


def test_after_a_restart_only_errors_and_connections_are_remembered() -> None:
    tally = FleetTally(num_boards=1, now=0.0)
    tally.num_connected = 1
    tally.record_tokens(0, 5)
    tally.first_token.observe(0.1)
    tally.record_failure("the verifier is full")
    tally.restart(now=3.0)
    report = tally.report(now=4.0)
    assert (0, 0, 1) == (
        report.output_tokens,
        report.first_token.num_samples,
        report.num_connected,
    )
    assert {"the verifier is full": 1} == report.errors


def test_acceptance_is_over_positions_reached() -> None:
    tally = FleetTally(num_boards=1, now=0.0)
    tally.counts.survived_tokens, tally.counts.rejections = 3, 1
    assert 0.75 == tally.report(now=1.0).acceptance


def test_errors_come_most_frequent_first() -> None:
    tally = FleetTally(num_boards=1, now=0.0)
    for sentence in ("seldom", "often", "often"):
        tally.record_failure(sentence)
    assert ["often", "seldom"] == list(tally.report(now=1.0).errors)


def test_a_verifier_that_makes_up_sentences_costs_no_memory() -> None:
    tally = FleetTally(num_boards=1, now=0.0)
    for number in range(3 * MAX_SENTENCES):
        tally.record_failure(f"error {number}")
    assert MAX_SENTENCES + 1 == len(tally.errors)
    assert 2 * MAX_SENTENCES == tally.errors[OTHER_ERRORS]
