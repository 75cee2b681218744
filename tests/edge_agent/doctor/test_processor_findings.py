"""Builds of llama.cpp against processors, and frequencies."""

from __future__ import annotations

import msgspec
import pytest

from edge_agent.board.processor import Processor
from edge_agent.doctor.processor_findings import (
    build_finding,
    frequency_finding,
    lacks_what_build_needs,
)
from edge_agent.draft_model.llama_build import LlamaBuild
from shared.doctor.findings import Level

PI_4 = Processor(frozenset({"fp", "asimd", "crc32"}), num_cores=4)
PI_5 = Processor(frozenset({"fp", "asimd", "asimddp", "fphp", "asimdhp"}), num_cores=4)
X86 = Processor(frozenset({"avx", "avx2", "fma", "f16c", "bmi2"}), num_cores=2)
UNKNOWN = Processor(frozenset(), num_cores=1)
NATIVE_PI_5 = frozenset({"NEON", "ARM_FMA", "FP16_VA", "DOTPROD", "REPACK"})
PLAIN_ARM = frozenset({"NEON", "ARM_FMA"})


def built(features: frozenset[str], has_gpu: bool = False) -> LlamaBuild:
    return LlamaBuild(features, has_gpu, "0.3.36")


@pytest.mark.parametrize(
    ("processor", "features", "level", "words"),
    [
        (PI_5, NATIVE_PI_5, "ok", "uses what this processor has"),
        (PI_4, PLAIN_ARM, "ok", "uses what this processor has"),
        (PI_5, PLAIN_ARM, "warning", "built without DOTPROD, FP16_VA, which"),
        (PI_4, NATIVE_PI_5, "problem", "with DOTPROD, FP16_VA, which this one lacks"),
        (X86, frozenset({"SSE3"}), "warning", "built without AVX2, FMA, F16C, which"),
        (X86, frozenset({"AVX2", "FMA", "F16C", "AVX512"}), "problem", "with AVX512, which"),
        (UNKNOWN, NATIVE_PI_5, "ok", "the kernel does not tell"),
    ],
)
def test_a_build_against_a_processor(
    processor: Processor, features: frozenset[str], level: Level, words: str
) -> None:
    finding = build_finding(processor, built(features), gpu_layers=0)
    assert level == finding.level
    assert words in finding.sentence
    assert (level == "ok") is (finding.remedy is None)


def test_a_slow_build_is_mended_by_building_the_same_version_here() -> None:
    assert (
        "pip install --no-cache-dir --force-reinstall --no-binary llama-cpp-python "
        "llama-cpp-python==0.3.36" == build_finding(PI_5, built(PLAIN_ARM), 0).remedy
    )


def test_a_build_with_matrix_tiles_drafts_without_them_and_says_how_to_build_it() -> None:
    processor = Processor(X86.features | {"amx_int8"}, num_cores=2)
    build = built(frozenset({"AVX2", "FMA", "F16C", "AMX_INT8"}))
    finding = build_finding(processor, build, gpu_layers=0)
    assert "warning" == finding.level
    assert "a 4-bit draft is a fifth slower than it could be" in finding.sentence
    assert finding.remedy is not None
    assert finding.remedy.startswith('CMAKE_ARGS="-DCMAKE_C_FLAGS=-mno-amx-int8 ')
    assert "ok" == build_finding(processor, built(build.features - {"AMX_INT8"}), 0).level


def test_a_gpu_that_the_build_does_not_know() -> None:
    finding = build_finding(PI_5, built(NATIVE_PI_5), gpu_layers=20)
    assert "warning" == finding.level
    assert finding.remedy is not None
    assert finding.remedy.startswith("CMAKE_ARGS=-DGGML_CUDA=on pip install")


def test_on_a_gpu_the_processor_matters_little() -> None:
    assert "ok" == build_finding(PI_5, built(PLAIN_ARM, has_gpu=True), gpu_layers=20).level


def test_what_is_unknown_lacks_nothing() -> None:
    assert () == lacks_what_build_needs(UNKNOWN, built(NATIVE_PI_5))
    assert ("DOTPROD", "FP16_VA") == lacks_what_build_needs(PI_4, built(NATIVE_PI_5))


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, "ok", "4 cores"),
        ({"num_cores": 1}, "ok", "1 core"),
        ({"governor": "ondemand", "allowed_mhz": 2400.0}, "ok", "4 cores, up to 2400 MHz, gov"),
        ({"governor": "powersave", "driver": "cpufreq-dt"}, "warning", "lowest frequency"),
        ({"governor": "powersave", "driver": "intel_pstate"}, "ok", "governor powersave"),
        ({"allowed_mhz": 600.0, "built_for_mhz": 1800.0}, "warning", "to 600 of 1800 MHz"),
    ],
)
def test_frequencies(changes: dict[str, object], level: Level, words: str) -> None:
    finding = frequency_finding(msgspec.structs.replace(PI_4, **changes))
    assert level == finding.level
    assert words in finding.sentence
    assert (level == "ok") is (finding.remedy is None)
