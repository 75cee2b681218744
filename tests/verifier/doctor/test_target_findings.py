"""Target, GPU, memory and curve: each state of them, and what mends it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shared.doctor.findings import Level, ok
from verifier.doctor.target_findings import (
    broken_target_finding,
    curve_finding,
    gpu_finding,
    load_finding,
    memory_finding,
    target_finding,
)
from verifier.target.target_need import TargetNeed

GIB = 1 << 30
ON_CPU = TargetNeed(
    model_name="big",
    hardware="CPU, 8 threads",
    dtype="float32",
    is_on_gpu=False,
    weight_bytes=4 * GIB,
    cached_token_bytes=1 << 16,
    round_bytes=GIB,
    cache_tokens=16384,  # 1 GiB
    free_bytes=16 * GIB,
)
ON_GPU = msgspec.structs.replace(
    ON_CPU, hardware="H100", is_on_gpu=True, cache_tokens=None, free_bytes=80 * GIB
)


def with_free(need: TargetNeed, gib: float | None) -> TargetNeed:
    return msgspec.structs.replace(need, free_bytes=None if gib is None else int(gib * GIB))


@pytest.mark.parametrize(
    ("need", "level", "words"),
    [
        (
            with_free(ON_CPU, 16),
            "ok",
            "cache of 16384 tokens 1.0 GiB + program 0.6 GiB, 16.0 GiB",
        ),
        (with_free(ON_CPU, None), "ok", "what is free cannot be told"),
        (with_free(ON_CPU, 5.5), "warning", "no room to spare"),
        (with_free(ON_CPU, 4.9), "problem", "too little"),
        (with_free(ON_GPU, 80), "ok", "80.0 GiB of the GPU free"),
        (with_free(ON_GPU, 5.4), "warning", ": 2 streams of 2048 tokens"),
        (with_free(ON_GPU, 5.1), "problem", "too little"),
        (with_free(ON_GPU, 3), "problem", "a cache of 0 tokens"),
    ],
)
def test_memory(need: TargetNeed, level: Level, words: str) -> None:
    finding = memory_finding(need, context_tokens=2048, memory_fraction=0.9)
    assert level == finding.level
    assert words in finding.sentence
    assert (level == "ok") is (finding.remedy is None)


@pytest.mark.parametrize(
    ("need", "has_driver", "level"),
    [(ON_GPU, True, "ok"), (ON_CPU, False, "ok"), (ON_CPU, True, "warning")],
)
def test_a_gpu_that_is_not_used(need: TargetNeed, has_driver: bool, level: Level) -> None:
    assert level == gpu_finding(need, has_driver).level


def test_the_target() -> None:
    assert ok("target", "big in float32 on CPU, 8 threads") == target_finding(ON_CPU)
    broken = broken_target_finding("tiny.gguf is cut")
    assert ("problem", "tiny.gguf is cut") == (broken.level, broken.sentence)
    assert broken.remedy is not None


@pytest.mark.parametrize(
    ("path", "fault", "is_there", "level", "words"),
    [
        (None, None, False, "warning", "without state.directory"),
        (Path("c.json"), None, False, "warning", "no cost curve at c.json"),
        (Path("c.json"), "of another model", True, "warning", "c.json: of another model"),
        (Path("c.json"), None, True, "ok", "that of this target"),
    ],
)
def test_the_curve(
    path: Path | None, fault: str | None, is_there: bool, level: Level, words: str
) -> None:
    finding = curve_finding(path, fault, is_there)
    assert level == finding.level
    assert words in finding.sentence
    assert (level == "ok") is (finding.remedy is None)


def test_the_time_to_load() -> None:
    assert ok("load", "loaded in 3.2 s") == load_finding(3.21)
