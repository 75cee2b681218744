"""Both ways to accept a draft give exactly the target's distribution; known mistakes do not.

The exact cases add up every way to a token on a small vocabulary; the samples run the real functions
on real random numbers, which a table holds ready because 200,000 single draws would take minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from shared import speculation
from shared.noise import Domain, gumbel, philox, to_uniforms, uniform
from shared.sparse_rows import SparseRow, quantise
from shared.speculation import (
    Verification,
    draw,
    draw_dense,
    residual_weights,
    verify_coupled,
    verify_rejection,
)

SEED = 0x1234_5678_9ABC_DEF0
NUM_SAMPLES = 200_000
VOCAB_SIZE = 4  # the four lanes of one counter
# chi-square quantiles: a sample of the right distribution exceeds them once in 10,000 times.
CHI_SQUARE_LIMITS = {2: 18.42, 3: 21.11}

Probs = NDArray[np.float64]


def distribution(weights: Sequence[float]) -> Probs:
    return np.array(weights, dtype=np.float64) / sum(weights)


def row_of(weights: Sequence[float], max_entries: int = VOCAB_SIZE) -> SparseRow:
    """What a board makes of its probabilities."""
    probs = distribution(weights)
    order = np.argsort(-probs, kind="stable")
    order = order[: np.count_nonzero(probs)]
    return quantise(order, probs[order], max_entries)


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
    cut = verify_rejection(CERTAIN, [0, 2], [CERTAIN_ROWS[0]] * 2, SEED, 0, draws_bonus=False) \
        if False else verify_rejection(
            CERTAIN, [0, 2], [CERTAIN_ROWS[0], CERTAIN_ROWS[2]], SEED, 0, draws_bonus=False
        )
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


# --- samples ----------------------------------------------------------------------------------


class NoiseTable:
    """The random numbers of one seed and a small vocabulary, computed at once."""

    def __init__(self, num_positions: int) -> None:
        counters = np.zeros((num_positions, 4), dtype=np.uint64)
        counters[:, 1] = np.arange(num_positions)
        self.uniforms = {}
        for domain in Domain:
            counters[:, 2] = int(domain)
            words = philox(counters, (SEED & 0xFFFFFFFF, SEED >> 32))
            self.uniforms[domain] = to_uniforms(words)
        self.gumbels = {
            domain: -np.log(-np.log1p(-numbers.astype(np.float64)))
            for domain, numbers in self.uniforms.items()
        }

    def uniform(self, seed: int, position: int, domain: Domain) -> float:
        assert seed == SEED
        return float(self.uniforms[domain][position, 0])

    def gumbel(self, seed: int, position: int, domain: Domain, token_ids: ArrayLike) -> Probs:
        assert seed == SEED
        return np.asarray(self.gumbels[domain][position, token_ids])


@pytest.fixture(scope="module")
def table() -> NoiseTable:
    return NoiseTable(2 * NUM_SAMPLES + 2)


@pytest.fixture
def fast_noise(table: NoiseTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speculation, "gumbel", table.gumbel)
    monkeypatch.setattr(speculation, "uniform", table.uniform)


def chi_square(counts: NDArray[np.int64], probs: Probs) -> float:
    expected = counts.sum() * probs
    return float(((counts - expected) ** 2 / expected).sum())


def assert_fits(counts: NDArray[np.int64], probs: Probs) -> None:
    possible = probs > 0
    assert 0 == counts[~possible].sum()
    limit = CHI_SQUARE_LIMITS[int(possible.sum()) - 1]
    assert chi_square(counts[possible], probs[possible]) < limit


# The first draft token decides which rows come second; the draft's row leaves a token out.
FIRST_TARGET = distribution([0.45, 0.3, 0.2, 0.05])
SECOND_TARGETS = np.stack(
    [distribution(w) for w in ([4, 3, 2, 1], [1, 1, 1, 1], [1, 5, 2, 2], [0, 1, 2, 1])]
)
FIRST_ROW = row_of([0.25, 0.25, 0.4, 0.1], 3)
SECOND_ROWS = [row_of(weights, 3) for weights in ([1, 2, 3, 4], [6, 2, 1, 1], [1, 5, 2, 2], [3, 1, 1, 1])]
BONUS_TARGET = distribution([1, 2, 3, 4])


def sample_outputs(
    verify: Callable[[Probs, list[int], int], Verification], domain: Domain
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts of the first output token, and of the second one after each first [first, second]."""
    first_counts = np.zeros(VOCAB_SIZE, dtype=np.int64)
    second_counts = np.zeros((VOCAB_SIZE, VOCAB_SIZE), dtype=np.int64)
    for position in range(0, 2 * NUM_SAMPLES, 2):
        first = draw(FIRST_ROW.token_ids, FIRST_ROW.weights, SEED, position, domain)
        row = SECOND_ROWS[first]
        second = draw(row.token_ids, row.weights, SEED, position + 1, domain)
        target = np.stack([FIRST_TARGET, SECOND_TARGETS[first], BONUS_TARGET])
        verification = verify(target, [first, second], position)
        output = [*[first, second][: verification.num_accepted], verification.token_id]
        first_counts[output[0]] += 1
        if verification.num_accepted:
            second_counts[first, output[1]] += 1
    return first_counts, second_counts


def test_the_table_holds_the_real_random_numbers(table: NoiseTable) -> None:
    for domain in Domain:
        for position in (0, 1, 77_777):
            real = gumbel(SEED, position, domain, range(VOCAB_SIZE))
            assert real.tolist() == table.gumbel(SEED, position, domain, range(VOCAB_SIZE)).tolist()
            assert uniform(SEED, position, domain) == table.uniform(SEED, position, domain)


@pytest.mark.usefixtures("fast_noise")
@pytest.mark.parametrize("domain", [Domain.DRAFT, Domain.RECOVERED])
def test_draws_follow_their_weights(domain: Domain) -> None:
    token_ids, weights = np.array([2, 0, 3]), np.array([6, 3, 1], dtype=np.uint16)
    counts = np.zeros(VOCAB_SIZE, dtype=np.int64)
    for position in range(NUM_SAMPLES):
        counts[draw(token_ids, weights, SEED, position, domain)] += 1
    assert_fits(counts, distribution([3, 0, 6, 1]))


@pytest.mark.usefixtures("fast_noise")
def test_rejection_samples_follow_the_target() -> None:
    def verify(target: Probs, drafted: list[int], position: int) -> Verification:
        rows = [FIRST_ROW, SECOND_ROWS[drafted[0]]]
        return verify_rejection(target, drafted, rows, SEED, position)

    first_counts, second_counts = sample_outputs(verify, Domain.DRAFT)
    assert_fits(first_counts, FIRST_TARGET)
    for first in FIRST_ROW.token_ids.tolist():
        assert_fits(second_counts[first], SECOND_TARGETS[first])


@pytest.mark.usefixtures("fast_noise")
def test_coupled_samples_follow_the_target() -> None:
    def verify(target: Probs, drafted: list[int], position: int) -> Verification:
        return verify_coupled(target, drafted, SEED, position)

    first_counts, second_counts = sample_outputs(verify, Domain.COUPLED)
    assert_fits(first_counts, FIRST_TARGET)
    for first in FIRST_ROW.token_ids.tolist():
        assert_fits(second_counts[first], SECOND_TARGETS[first])
