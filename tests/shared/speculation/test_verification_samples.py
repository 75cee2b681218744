"""200,000 draws and verdicts follow the target: chi-square on the functions that run in production.

The random numbers are the real ones, but a table holds them ready: single draws would take minutes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from shared.speculation import verification
from shared.speculation.noise import Domain, gumbel, philox, to_uniforms, uniform
from shared.speculation.verification import Verification, draw, verify_coupled, verify_rejection
from tests.support.statistics.distributions import distribution, row_of

SEED = 0x1234_5678_9ABC_DEF0
NUM_SAMPLES = 200_000
VOCAB_SIZE = 4  # the four lanes of one counter
# chi-square quantiles: a sample of the right distribution exceeds them once in 10,000 times.
CHI_SQUARE_LIMITS = {2: 18.42, 3: 21.11}

Probs = NDArray[np.float64]


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
    monkeypatch.setattr(verification, "gumbel", table.gumbel)
    monkeypatch.setattr(verification, "uniform", table.uniform)


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
SECOND_ROWS = [
    row_of(weights, 3) for weights in ([1, 2, 3, 4], [6, 2, 1, 1], [1, 5, 2, 2], [3, 1, 1, 1])
]
TARGETS = [
    np.stack([FIRST_TARGET, second, distribution([1, 2, 3, 4])]) for second in SECOND_TARGETS
]


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
        verification = verify(TARGETS[first], [first, second], position)
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
