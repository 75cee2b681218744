"""What the installed llama.cpp says of itself."""

from __future__ import annotations

from importlib.metadata import version

from edge_agent.draft_model.llama_build import built_features, read_build


def test_what_is_zero_is_not_built() -> None:
    told = "CPU : NEON = 1 | ARM_FMA = 1 | DOTPROD = 0 | SVE_CNT = 16 | REPACK = 1 | "
    assert {"NEON", "ARM_FMA", "SVE_CNT", "REPACK"} == built_features(told)


def test_the_build_of_this_machine() -> None:
    build = read_build()
    assert version("llama-cpp-python") == build.version
    assert build.features
