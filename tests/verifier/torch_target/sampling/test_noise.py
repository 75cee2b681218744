"""The verifier's random numbers are the board's, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.speculation import noise
from shared.speculation.noise import Domain
from verifier.torch_target.sampling.noise import (
    counter_words,
    noise_keys,
    to_uniforms,
    uniforms,
    waiting_times,
    words,
)

CPU = torch.device("cpu")

draws = st.tuples(
    st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 2**31, 2**32 - 1, 2**63 - 1])),
    st.integers(0, 2**24),
    st.sampled_from(Domain),
)


@settings(deadline=None)
@given(st.lists(draws, min_size=1, max_size=5), st.data())
def test_words_and_uniforms_are_the_same_bits(
    rows: list[tuple[int, int, Domain]], data: st.DataObject
) -> None:
    num_ids = data.draw(st.integers(1, 7))
    ids = st.lists(st.integers(0, 2**24 - 1), min_size=num_ids, max_size=num_ids)
    token_ids = [data.draw(ids) for _ in rows]
    keys = noise_keys(rows, CPU)
    expected = [
        noise.words(*row, row_ids).tolist() for row, row_ids in zip(rows, token_ids, strict=True)
    ]
    assert expected == words(keys, torch.tensor(token_ids)).tolist()
    expected = [
        noise.uniforms(*row, row_ids).tolist() for row, row_ids in zip(rows, token_ids, strict=True)
    ]
    assert expected == uniforms(keys, torch.tensor(token_ids)).tolist()


def test_a_published_vector_of_philox_comes_out() -> None:
    # Random123, kat_vectors: philox4x32-10, counter and key all zero.
    zeros = noise_keys([(0, 0, Domain.DRAFT)], CPU)
    expected = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert expected == counter_words(zeros, torch.zeros(1, 1, dtype=torch.int64)).flatten().tolist()


def test_whole_vocabularies_agree_over_many_rows() -> None:
    rows = [(seed * 0x9E3779B97F4A7C15 % 2**64, seed, Domain.COUPLED) for seed in range(5)]
    counters = torch.arange(12_288)[:, None].expand(-1, 5)
    lanes = counter_words(noise_keys(rows, CPU), counters)  # [4, counters, rows]
    by_id = lanes.permute(2, 1, 0).reshape(5, -1)
    for row, row_words in zip(rows, by_id, strict=True):
        assert (noise.words(*row, np.arange(49_152)) == row_words.numpy()).all()


def test_extreme_words_give_the_extreme_uniforms() -> None:
    extremes = [0, 1, 2**24, 2**31 - 1, 2**31, 2**32 - 256, 2**32 - 129, 2**32 - 128, 2**32 - 1]
    expected = noise.to_uniforms(np.array(extremes, dtype=np.uint64)).tolist()
    assert expected == to_uniforms(torch.tensor(extremes)).tolist()


def test_random_words_give_the_same_uniforms() -> None:
    some = np.random.default_rng(0).integers(0, 2**32, 1_000_000, dtype=np.uint64)
    uniforms_there = to_uniforms(torch.from_numpy(some.astype(np.int64))).numpy()
    assert (noise.to_uniforms(some) == uniforms_there).all()


def test_waiting_times_are_the_gumbel_noise() -> None:
    token_ids = np.arange(1000)
    keys = noise_keys([(7, 3, Domain.BONUS)], CPU)
    there = -waiting_times(keys, torch.from_numpy(token_ids)[None]).log()
    assert noise.gumbel(7, 3, Domain.BONUS, token_ids) == pytest.approx(there[0].numpy(), rel=1e-13)


def test_no_draws_give_no_numbers() -> None:
    assert (0, 3) == words(noise_keys([], CPU), torch.zeros(0, 3, dtype=torch.int64)).shape
