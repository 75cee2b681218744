"""What a rank needs of its machine, and the sentence where that is not there."""

from __future__ import annotations

import re

import msgspec
import pytest
import torch

from shared.errors import ModelError
from verifier.config import VerifierConfig
from verifier.startup import target_settings
from verifier.target.rank_place import RankPlace
from verifier.torch_target.parallel.rank_group import RankGroup, device_of_rank

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SETTINGS = target_settings(VerifierConfig())


def test_ranks_on_a_processor_share_it() -> None:
    assert CPU == device_of_rank(RankPlace(1, 2, 1), CPU, SETTINGS)


@pytest.mark.parametrize(
    ("device", "num_gpus", "sentence"),
    [
        ("cuda:1", 4, "target.device = cuda:1 is one GPU, and workers.gpus_per_worker = 2"),
        ("cuda", 1, "workers.gpus_per_worker = 2, and the worker sees 1 GPU"),
        ("cuda", 0, "workers.gpus_per_worker = 2, and the worker sees 0 GPUs"),
    ],
)
def test_gpus_that_are_not_there_are_a_sentence(
    monkeypatch: pytest.MonkeyPatch, device: str, num_gpus: int, sentence: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    with pytest.raises(ModelError, match=re.escape(sentence)):
        device_of_rank(RankPlace(1, 2, 1), torch.device(device), SETTINGS)


def test_each_rank_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    places = [RankPlace(rank, 2, 1) for rank in range(2)]
    devices = [device_of_rank(place, CUDA, SETTINGS) for place in places]
    assert [torch.device("cuda", 0), torch.device("cuda", 1)] == devices


def test_the_order_of_a_sum_of_three_hangs_on_the_round() -> None:
    invariant = msgspec.structs.replace(SETTINGS, batch_invariant=True)
    assert CPU == device_of_rank(RankPlace(0, 2, 1), CPU, invariant)
    with pytest.raises(ModelError, match=r"target\.batch_invariant is not possible"):
        device_of_rank(RankPlace(0, 3, 1), CPU, invariant)


@pytest.mark.skipif(torch.distributed.is_nccl_available(), reason="this torch has NCCL")
def test_a_torch_without_nccl_says_so() -> None:
    with pytest.raises(ModelError, match="this build of torch has no nccl"):
        RankGroup(RankPlace(0, 2, 1), CUDA)
