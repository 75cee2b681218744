"""What a GPU cannot do is one sentence with the value and the limit."""

from __future__ import annotations

import pytest

from shared.errors import ModelError
from verifier.torch_target.precision.gpu_limits import (
    Capability,
    check_gpu,
    check_head_size,
    check_quantisation,
    check_weights_fit,
    gpu_dtype,
    out_of_memory,
)

GIB = 1 << 30


@pytest.mark.parametrize(("name", "num_gpus"), [("cuda", 1), ("cuda:0", 1), ("cuda:1", 2)])
def test_a_gpu_that_is_there_is_taken(name: str, num_gpus: int) -> None:
    check_gpu(name, num_gpus)


@pytest.mark.parametrize(
    ("name", "num_gpus", "sentence"),
    [
        ("cuda", 0, "target.device is cuda, but torch sees no GPU here"),
        ("cuda:1", 0, "target.device is cuda:1, but torch sees no GPU here"),
        ("cuda:1", 1, "target.device is cuda:1, but only cuda:0 is here"),
        ("cuda:10", 8, "target.device is cuda:10, but only cuda:0 to cuda:7 are here"),
    ],
)
def test_a_gpu_that_is_not_there_is_named(name: str, num_gpus: int, sentence: str) -> None:
    with pytest.raises(ModelError) as raised:
        check_gpu(name, num_gpus)
    assert sentence == str(raised.value)


@pytest.mark.parametrize(
    ("name", "capability", "dtype"),
    [
        ("auto", (9, 0), "bfloat16"),
        ("auto", (8, 0), "bfloat16"),
        ("auto", (7, 5), "float16"),
        ("float16", (7, 5), "float16"),
        ("float32", (7, 0), "float32"),
        ("bfloat16", (8, 6), "bfloat16"),
    ],
)
def test_auto_is_bfloat16_where_the_gpu_has_it(
    name: str, capability: Capability, dtype: str
) -> None:
    assert dtype == gpu_dtype(name, capability)


def test_bfloat16_on_a_gpu_without_it_is_refused() -> None:
    with pytest.raises(ModelError, match=r"bfloat16, which this GPU of compute capability 7\.5"):
        gpu_dtype("bfloat16", (7, 5))


def test_8_bit_floats_on_a_gpu_without_them_are_refused() -> None:
    check_quantisation("int8", (7, 5))
    check_quantisation("fp8", (8, 9))
    with pytest.raises(ModelError, match=r"8\.0 lacks .*8\.9.*target\.quantisation = int8"):
        check_quantisation("fp8", (8, 0))


@pytest.mark.parametrize("size", [16, 64, 80, 96, 128, 192, 256])
def test_heads_of_usual_sizes_are_served(size: int) -> None:
    check_head_size(size)


@pytest.mark.parametrize("size", [8, 15, 257, 512])
def test_heads_of_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ModelError, match=f"have a size of {size}, on a GPU they must have 16 to"):
        check_head_size(size)


def test_weights_that_do_not_fit_are_refused_with_what_helps() -> None:
    check_weights_fit(15 * GIB, 15 * GIB)
    with pytest.raises(ModelError) as raised:
        check_weights_fit(15 * GIB, 15 * GIB - (1 << 28))
    assert (
        "the weights of the target take 15.0 GiB, 14.8 GiB of the GPU are free; set "
        "target.quantisation = int8, take a smaller target.model or another target.device, or "
        "split it over several GPUs (workers.gpus_per_worker)"
    ) == str(raised.value)


def test_running_out_of_memory_says_how_much_there_was() -> None:
    sentence = str(out_of_memory(7 * GIB, 8 * GIB))
    assert "the weights take 7.0 GiB, 8.0 GiB were free before" in sentence
    assert "target.kv_cache_tokens" in sentence
