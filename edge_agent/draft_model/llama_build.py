"""How the llama.cpp that is installed was built: for which processor, and with a GPU or without.

It must never load a model: a build for another processor ends the program in its first product.
"""

from __future__ import annotations

import re

import msgspec

from edge_agent.draft_model.llama_binding import llama_cpp

# Products with Intel's matrix tiles. Where a compiler drops the tiles' set-up (GCC below 11.5, 12.4
# and 13.3: its bug 114098) or a kernel wants leave asked for each thread, the first one ends the
# program (llama.cpp's issue 20824).
TILES = "AMX_INT8"
FLAGS_WITHOUT_TILES = "-DCMAKE_C_FLAGS=-mno-amx-int8 -DCMAKE_CXX_FLAGS=-mno-amx-int8"

_FEATURE = re.compile(r"(\w+) = (\d+)")


class LlamaBuild(msgspec.Struct, frozen=True):
    """What `llama_print_system_info` tells, and the version of its package."""

    features: frozenset[str]  # as llama.cpp spells them: AVX2, DOTPROD…
    has_gpu: bool
    version: str


def read_build() -> LlamaBuild:
    """The build that this program would draft with."""
    told = llama_cpp.llama_print_system_info().decode(errors="replace")
    return LlamaBuild(
        features=built_features(told),
        has_gpu=bool(llama_cpp.llama_supports_gpu_offload()),
        version=llama_cpp.__version__,
    )


def built_features(told: str) -> frozenset[str]:
    """The features in a line such as `CPU : SSE3 = 1 | AVX2 = 0 | LLAMAFILE = 1 |`."""
    return frozenset(name for name, value in _FEATURE.findall(told) if value != "0")
