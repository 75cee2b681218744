"""The cache takes a part of what weights and the largest round leave free, and no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ModelError
from verifier.torch_target.loading.kv_memory import (
    TargetShape,
    cache_tokens_of_cpu,
    cache_tokens_of_gpu,
    check_cache_tokens,
)

GIB = 1 << 30
LLAMA_8B = TargetShape(
    vocab_size=128_256,
    hidden_size=4096,
    intermediate_size=14336,
    kv_values_per_token=2 * 32 * 8 * 128,
    element_bytes=2,
)


def test_a_token_of_an_8b_shape_takes_128_kib() -> None:
    assert 128 << 10 == LLAMA_8B.cached_token_bytes


def test_an_8b_shape_on_an_80_gb_gpu_has_room_for_many_streams() -> None:
    num_tokens = cache_tokens_of_gpu(LLAMA_8B, 64 * GIB, 512, 0.9)
    assert 430_000 < num_tokens < 465_000


@given(
    st.integers(0, 200 * GIB), st.integers(1, 1 << 14), st.floats(0.1, 1.0), st.sampled_from([2, 4])
)
def test_cache_and_round_never_take_more_than_is_free(
    free_bytes: int, max_round_tokens: int, fraction: float, element_bytes: int
) -> None:
    shape = TargetShape(
        vocab_size=32_000,
        hidden_size=2048,
        intermediate_size=8192,
        kv_values_per_token=8192,
        element_bytes=element_bytes,
    )
    left = free_bytes - shape.round_bytes(max_round_tokens)
    try:
        num_tokens = cache_tokens_of_gpu(shape, free_bytes, max_round_tokens, fraction)
    except ModelError:
        assert fraction * left < shape.cached_token_bytes
    else:
        taken = num_tokens * shape.cached_token_bytes
        assert taken <= fraction * left < taken + shape.cached_token_bytes + 1


def test_no_memory_left_is_one_sentence_that_names_it() -> None:
    with pytest.raises(ModelError, match=r"after the weights 1\.0 GiB .* one round of 512 tokens"):
        cache_tokens_of_gpu(LLAMA_8B, GIB, 512, 0.9)


def test_in_main_memory_the_cache_is_as_large_as_it_must_be() -> None:
    assert 16384 == cache_tokens_of_cpu(2048, 512)
    assert 32768 == cache_tokens_of_cpu(32768, 512)
    assert 20000 == cache_tokens_of_cpu(2048, 20000)


def test_a_cache_holds_one_stream_and_one_round() -> None:
    check_cache_tokens(2048, 2048, 2048)
    with pytest.raises(ModelError, match=r"room for 2047 tokens, .* target.context_tokens = 2048"):
        check_cache_tokens(2047, 2048, 1)
    with pytest.raises(ModelError, match=r"for 256 tokens, .* rounds.max_round_tokens = 512"):
        check_cache_tokens(256, 128, 512)
