"""Random numbers are pinned bit for bit, and good enough to sample from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.speculation.noise import (
    LARGEST_UNIFORM,
    Domain,
    gumbel,
    philox,
    to_uniforms,
    uniform,
    uniforms,
    words,
)

NUM_DRAWS = 100_000
# Kolmogorov-Smirnov: P(statistic * sqrt(n) > 1.95) = 0.001.
LARGEST_KS_STATISTIC = 1.95 / math.sqrt(NUM_DRAWS)

# Random123's kat_vectors for philox4x32-10: counter, key, output.
KNOWN_ANSWERS = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",  # the digits of pi
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]

# Computed with Python integers: seed, position, domain, token id, word, bits of the uniform.
VECTORS = [
    (0x0, 0, Domain.DRAFT, 0, 0x6627E8D5, "3ecc4fd2"),
    (0x0, 0, Domain.DRAFT, 1, 0xE169C58D, "3f6169c6"),
    (0x0, 0, Domain.DRAFT, 2, 0xBC57AC4C, "3f3c57ac"),
    (0x0, 0, Domain.DRAFT, 3, 0x9B00DBD8, "3f1b00dc"),
    (0x0, 0, Domain.DRAFT, 4, 0xF8E4CCA4, "3f78e4cd"),
    (0x1, 0, Domain.ACCEPT, 0, 0x07071C12, "3ce0e382"),
    (0x2A, 7, Domain.RECOVERED, 151_935, 0x869BE1A2, "3f069be2"),
    (0x2A, 7, Domain.BONUS, 151_935, 0x68D48C92, "3ed1a919"),
    (0x1_0000_0000, 1, Domain.COUPLED, 49_151, 0x7D12E4AA, "3efa25c9"),
    (0x1234_5678_9ABC_DEF0, 1000, Domain.COUPLED, 31_999, 0x8C4A4487, "3f0c4a45"),
    (0x1234_5678_9ABC_DEF0, 1000, Domain.DRAFT, 31_999, 0xBDB3558A, "3f3db356"),
    ((1 << 63) - 1, 1 << 24, Domain.COUPLED, (1 << 24) - 1, 0x747706A0, "3ee8ee0d"),
]

seeds = st.integers(0, (1 << 63) - 1)
positions = st.integers(0, 1 << 24)
domains = st.sampled_from(Domain)
token_ids = st.integers(0, (1 << 24) - 1)


def float_bits(number: np.float32) -> str:
    return f"{number.view(np.uint32):08x}"


def ks_statistic(sample: NDArray[np.float32]) -> float:
    """The largest distance between the sample's distribution and the uniform one."""
    ordered = np.sort(sample.astype(np.float64))
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))


@pytest.mark.parametrize(("counter", "key", "output"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers_of_random123(counter: str, key: str, output: str) -> None:
    counters = np.array([[int(word, 16) for word in counter.split()]], dtype=np.uint64)
    first, second = (int(word, 16) for word in key.split())
    assert output == " ".join(f"{word:08x}" for word in philox(counters, (first, second))[0])


def test_philox_of_many_counters_is_philox_of_each() -> None:
    counters = np.arange(40, dtype=np.uint64).reshape(10, 4)
    alone = [philox(counter[None], (1, 2))[0].tolist() for counter in counters]
    assert alone == philox(counters, (1, 2)).tolist()


@pytest.mark.parametrize(
    ("seed", "position", "domain", "token_id", "word", "uniform_bits"), VECTORS
)
def test_words_and_uniforms_are_pinned(
    seed: int, position: int, domain: Domain, token_id: int, word: int, uniform_bits: str
) -> None:
    assert [word] == words(seed, position, domain, [token_id]).tolist()
    assert uniform_bits == float_bits(uniforms(seed, position, domain, [token_id])[0])


@pytest.mark.parametrize(
    ("word", "uniform_bits"),
    [
        (0, "2f000000"),  # 2**-33
        (1, "2fc00000"),
        (1 << 24, "3b800000"),
        (1 << 31, "3f000000"),  # a half
        (0xFFFFFF7F, "3f7fffff"),  # 1 - 2**-24
        (0xFFFFFFFF, "3f7fffff"),  # would round to 1
    ],
)
def test_a_word_becomes_a_pinned_float32(word: int, uniform_bits: str) -> None:
    (converted,) = to_uniforms(np.array([word], dtype=np.uint64))
    assert np.float32 == converted.dtype
    assert uniform_bits == float_bits(converted)


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_uniforms_lie_inside_the_open_unit_interval_and_keep_the_order(a: int, b: int) -> None:
    smaller, larger = to_uniforms(np.array([min(a, b), max(a, b)], dtype=np.uint64))
    assert np.float32(2**-33) <= smaller <= larger <= LARGEST_UNIFORM < 1


@given(seeds, positions, domains, st.lists(token_ids, min_size=1, max_size=20), st.data())
def test_a_number_depends_on_no_other_token_id(
    seed: int, position: int, domain: Domain, ids: list[int], data: st.DataObject
) -> None:
    i = data.draw(st.integers(0, len(ids) - 1))
    together = words(seed, position, domain, ids)
    assert together[i] == words(seed, position, domain, [ids[i]])[0]


def test_no_ids_have_no_numbers() -> None:
    assert [] == uniforms(1, 2, Domain.DRAFT, []).tolist()


@given(seeds, positions, domains)
def test_a_decision_without_a_token_id_uses_id_0(seed: int, position: int, domain: Domain) -> None:
    assert float(uniforms(seed, position, domain, [0])[0]) == uniform(seed, position, domain)


@pytest.mark.parametrize("domain", Domain)
def test_uniforms_over_ids_are_uniform(domain: Domain) -> None:
    sample = uniforms(20_261_122, 5, domain, np.arange(NUM_DRAWS))
    assert ks_statistic(sample) < LARGEST_KS_STATISTIC


def test_uniforms_over_positions_and_seeds_are_uniform() -> None:
    one_each = [uniform(seed, 3 * seed, Domain.ACCEPT) for seed in range(4000)]
    assert ks_statistic(np.array(one_each, dtype=np.float32)) < 1.95 / math.sqrt(4000)


def test_the_four_lanes_of_a_counter_are_uniform() -> None:
    sample = uniforms(7, 0, Domain.DRAFT, np.arange(NUM_DRAWS))
    for lane in range(4):
        assert ks_statistic(sample[lane::4]) < 2 * LARGEST_KS_STATISTIC


def test_domains_positions_and_seeds_are_independent() -> None:
    ids = np.arange(NUM_DRAWS)
    streams = [uniforms(3, 9, domain, ids) for domain in Domain]
    streams += [
        uniforms(3, 10, Domain.DRAFT, ids),
        uniforms(4, 9, Domain.DRAFT, ids),
        uniforms(3 + (1 << 32), 9, Domain.DRAFT, ids),
    ]
    correlations = np.corrcoef(np.array(streams, dtype=np.float64)) - np.eye(len(streams))
    assert np.abs(correlations).max() < 4.5 / math.sqrt(NUM_DRAWS)


def test_gumbel_is_the_logarithm_of_an_exponential_waiting_time() -> None:
    ids = [0, 1, 7, 49_151]
    waiting_times = -np.log(1 - uniforms(11, 22, Domain.COUPLED, ids).astype(np.float64))
    assert np.allclose(-np.log(waiting_times), gumbel(11, 22, Domain.COUPLED, ids), rtol=1e-9)


def test_gumbel_has_the_moments_of_the_standard_gumbel_distribution() -> None:
    sample = gumbel(5, 0, Domain.BONUS, np.arange(NUM_DRAWS))
    assert float(np.euler_gamma) == pytest.approx(float(sample.mean()), abs=0.02)
    assert math.pi**2 / 6 == pytest.approx(float(sample.var()), abs=0.05)


def test_the_extreme_uniforms_give_finite_gumbel_noise() -> None:
    extremes = to_uniforms(np.array([0, 0xFFFFFFFF], dtype=np.uint64)).astype(np.float64)
    smallest, largest = -np.log(-np.log1p(-extremes))
    assert (22.87, -2.81) == pytest.approx((smallest, largest), abs=0.01)
