"""Both ways to accept a draft give exactly the target's distribution; known mistakes do not.

The exact cases add up every way to a token on a small vocabulary.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.speculation.noise import Domain, gumbel, uniform
from shared.speculation.sparse_row import SparseRow
from shared.speculation.verification import (
    Verification,
    draw,
    draw_dense,
    residual_weights,
    verify_coupled,
    verify_rejection,
)
from tests.support.statistics.distributions import distribution, row_of

SEED = 0x1234_5678_9ABC_DEF0
VOCAB_SIZE = 4

Probs = NDArray[np.float64]


def dense(row: SparseRow, vocab_size: int) -> Probs:
    probs = np.zeros(vocab_size)
    probs[row.token_ids] = row.probs
    return probs


def total_variation(one: Probs, other: Probs) -> float:
    return 0.5 * float(np.abs(one - other).sum())


# --- exact: every way to a token, added up ----------------------------------------------------


def output_probs(target: Probs, row: SparseRow, drafted: Probs) -> Probs:
    """Distribution of the first output token when the draft is drawn from `drafted`."""
    output = np.zeros(len(target))
    residual = residual_weights(target, row)
    for token_id in np.flatnonzero(drafted).tolist():
        rows = np.stack([target, target])
        (accepted,) = verify_rejection(rows, [token_id], [row], SEED, 0).accept_probs
        output[token_id] += drafted[token_id] * accepted
        output += drafted[token_id] * (1 - accepted) * residual / residual.sum()
    return output


weights_of_a_vocabulary = st.integers(2, 12).flatmap(
    lambda vocab_size: st.tuples(
        *[
            st.lists(
                st.just(0.0) | st.floats(1e-6, 1), min_size=vocab_size, max_size=vocab_size
            ).filter(any)
            for _ in range(2)
        ]
    )
)


@given(weights_of_a_vocabulary, st.integers(1, 12))
def test_rejection_gives_exactly_the_target_whatever_the_row(
    weights: tuple[list[float], list[float]], max_entries: int
) -> None:
    target, row = distribution(weights[0]), row_of(weights[1], max_entries)
    output = output_probs(target, row, dense(row, len(target)))
    assert total_variation(target, output) < 1e-8  # a residual of that mass is not drawn from


@pytest.mark.parametrize(
    ("target", "drafted", "max_entries"),
    [
        ([4, 3, 2, 1], [1, 2, 3, 4], 4),
        ([4, 3, 2, 1], [1, 2, 3, 4], 2),
        ([1, 0, 0, 0], [0, 0, 1, 1], 4),  # no token in common
        ([1, 1, 1, 1], [1, 0, 0, 0], 4),  # a certain draft
        ([1, 0, 0, 0], [1, 1, 1, 1], 4),  # a certain target
        ([1, 1, 1, 1], [1, 1, 1, 1], 4),  # nothing is left to recover from
    ],
)
def test_rejection_is_exact_in_the_corner_cases(
    target: list[float], drafted: list[float], max_entries: int
) -> None:
    row = row_of(drafted, max_entries)
    output = output_probs(distribution(target), row, dense(row, VOCAB_SIZE))
    assert total_variation(distribution(target), output) < 1e-12


def test_the_chance_to_accept_is_what_both_distributions_share() -> None:
    target, row = distribution([4, 3, 2, 1]), row_of([1, 2, 3, 4])
    drafted = dense(row, VOCAB_SIZE)
    accepted = sum(
        drafted[token_id] * min(1.0, target[token_id] / drafted[token_id])
        for token_id in range(VOCAB_SIZE)
    )
    assert 1 - total_variation(target, drafted) == pytest.approx(accepted)


def test_the_residual_is_what_the_draft_did_not_cover() -> None:
    target, row = distribution([4, 3, 2, 1]), row_of([1, 2, 3, 4])
    assert [0.3, 0.1, 0, 0] == pytest.approx(residual_weights(target, row).tolist(), abs=1e-4)


def test_a_residual_that_is_only_rounding_noise_is_the_target() -> None:
    row = row_of([1, 1])
    noisy = np.array([0.5 + 1e-16, 0.5 - 1e-16])
    assert noisy.tolist() == residual_weights(noisy, row).tolist()


def test_the_residual_leaves_its_arguments_alone() -> None:
    target, row = distribution([4, 3, 2, 1]), row_of([1, 2, 3, 4])
    residual_weights(target, row)
    assert distribution([4, 3, 2, 1]).tolist() == target.tolist()


# Full distributions over 300 tokens: what 32 entries leave out has a tenth of the mass.
MANY_TARGET = distribution([1 / (i + 1) for i in range(300)])
MANY_DRAFTED = distribution([1 / (i + 1.5) ** 1.2 for i in range(300)])


def test_sampling_from_the_row_that_is_sent_is_exact() -> None:
    row = row_of(MANY_DRAFTED.tolist(), 32)
    assert total_variation(MANY_TARGET, output_probs(MANY_TARGET, row, dense(row, 300))) < 1e-12


def test_trap_sampling_from_the_full_distribution_and_sending_a_row() -> None:
    row = row_of(MANY_DRAFTED.tolist(), 32)
    in_row = np.isin(np.arange(300), row.token_ids)
    # Tokens outside the row cannot be tested; a verifier that trusts them takes them all.
    trusted = output_probs(MANY_TARGET, row, np.where(in_row, MANY_DRAFTED, 0))
    trusted += np.where(in_row, 0, MANY_DRAFTED)
    assert total_variation(MANY_TARGET, trusted) > 0.01


def test_trap_sampling_before_rounding() -> None:
    probs = distribution([0.5003, 0.2999, 0.1998])
    coarse = SparseRow(np.array([0, 1, 2], np.uint32), np.array([5, 3, 2], np.uint16))
    target = distribution([1, 1, 1])
    assert total_variation(target, output_probs(target, coarse, dense(coarse, 3))) < 1e-12
    assert total_variation(target, output_probs(target, coarse, probs)) > 1e-4


def test_trap_recovering_from_the_target_instead_of_the_residual() -> None:
    target, row = distribution([4, 3, 2, 1]), row_of([1, 2, 3, 4])
    shared_mass = np.minimum(target, dense(row, VOCAB_SIZE))
    output = shared_mass + (1 - shared_mass.sum()) * target
    assert total_variation(target, output) > 0.1


def test_trap_discarding_an_unlikely_token_after_it_was_drawn() -> None:
    target, row = distribution([4, 3, 2, 1]), row_of([4, 3, 2, 1])
    drafted = dense(row, VOCAB_SIZE)
    likely = np.where(drafted >= 0.25, drafted, 0)
    # Discarded: the target decodes alone.
    output = output_probs(target, row, likely) + (1 - likely.sum()) * target
    assert total_variation(target, output) > 0.05


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=8), st.integers(0, 7))
def test_coupled_commits_the_targets_own_draw_whatever_was_drafted(
    weights: list[int], drafted: int
) -> None:
    target = np.stack([distribution(weights)] * 2)
    own = draw_dense(target[0], SEED, 5, Domain.COUPLED)
    verification = verify_coupled(target, [drafted], SEED, 5)
    first = drafted if verification.num_accepted else verification.token_id
    assert own == first
    assert (own == drafted) == bool(verification.num_accepted)


# --- one draft, step by step ------------------------------------------------------------------

CERTAIN = np.eye(VOCAB_SIZE)  # row i: token i and no other
CERTAIN_ROWS = [row_of(CERTAIN[i].tolist()) for i in range(VOCAB_SIZE)]


@pytest.mark.parametrize(
    ("drafted", "num_accepted", "token_id"),
    [([0, 1, 2], 3, 3), ([1, 1, 2], 0, 0), ([0, 2, 2], 1, 1), ([0, 1, 3], 2, 2), ([], 0, 0)],
)
def test_tokens_are_accepted_up_to_the_first_rejected_one(
    drafted: list[int], num_accepted: int, token_id: int
) -> None:
    rows = [CERTAIN_ROWS[i] for i in drafted]
    target = CERTAIN[: len(drafted) + 1]
    by_rejection = verify_rejection(target, drafted, rows, SEED, 0)
    accept_probs = tuple(float(i == token) for i, token in enumerate(drafted))
    assert Verification(num_accepted, token_id, accept_probs) == by_rejection
    assert Verification(num_accepted, token_id, ()) == verify_coupled(target, drafted, SEED, 0)


def test_a_cut_draft_that_was_accepted_whole_brings_no_bonus() -> None:
    cut = verify_rejection(CERTAIN, [0, 1], CERTAIN_ROWS[:2], SEED, 0, draws_bonus=False)
    assert Verification(2, None, (1.0, 1.0)) == cut


def test_a_cut_draft_that_was_rejected_is_recovered() -> None:
    rows = [CERTAIN_ROWS[0], CERTAIN_ROWS[2]]
    cut = verify_rejection(CERTAIN, [0, 2], rows, SEED, 0, draws_bonus=False)
    assert Verification(1, 1, (1.0, 0.0)) == cut


def test_positions_behind_a_rejection_still_tell_how_good_they_were() -> None:
    target = np.stack([CERTAIN[0], distribution([1, 1, 1, 1]), CERTAIN[0]])
    rows = [CERTAIN_ROWS[3], row_of([1, 1, 0, 0])]
    assert (0.0, 0.5) == pytest.approx(verify_rejection(target, [3, 0], rows, SEED, 0).accept_probs)


@pytest.mark.parametrize(("chance", "is_accepted"), [(0.0, False), (-1e-6, False), (1e-6, True)])
def test_a_token_is_accepted_when_its_uniform_is_below_target_over_draft(
    chance: float, is_accepted: bool
) -> None:
    """The uniform itself is just not enough, anything above it is."""
    target_prob = uniform(SEED, 9, Domain.ACCEPT) + chance
    target = np.array([[target_prob, 1 - target_prob]] * 2)
    verification = verify_rejection(target, [0], [row_of([1, 0])], SEED, 9)
    assert is_accepted == bool(verification.num_accepted)


def test_each_decision_uses_the_noise_of_its_own_domain_and_position() -> None:
    probs = distribution(range(1, 65))
    row = row_of([1] * 64, 64)
    target = np.stack([probs] * 2)
    drafted = int(np.argmax(np.log(row.weights) + gumbel(SEED, 6, Domain.DRAFT, row.token_ids)))
    bonus = int(np.argmax(np.log(probs) + gumbel(SEED, 7, Domain.BONUS, np.arange(64))))
    coupled = int(np.argmax(np.log(probs) + gumbel(SEED, 6, Domain.COUPLED, np.arange(64))))
    rest = np.maximum(probs - 1 / 64, 1e-300)
    recovered = int(np.argmax(np.log(rest) + gumbel(SEED, 6, Domain.RECOVERED, np.arange(64))))
    assert int(row.token_ids[drafted]) == draw(row.token_ids, row.weights, SEED, 6, Domain.DRAFT)
    assert bonus == verify_rejection(target, [63], [row], SEED, 6).token_id
    assert recovered == verify_rejection(target, [0], [row], SEED, 6).token_id
    assert coupled == verify_coupled(target, [64], SEED, 6).token_id


def test_coupled_needs_a_target_row_behind_the_last_draft_token() -> None:
    with pytest.raises(ValueError, match="one row more than there are draft tokens"):
        verify_coupled(CERTAIN[:2], [0, 1], SEED, 0)


def test_tokens_without_weight_are_never_drawn() -> None:
    weights = np.array([0.0, 1.0, 0.0, 1e-9])
    drawn = {draw_dense(weights, SEED, position, Domain.BONUS) for position in range(200)}
    assert drawn <= {1, 3}
