"""Models are pulled whole and checked, or not at all."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest

from edge_agent.models.cache import recorded_sha256, sha256_of
from edge_agent.models.presets import (
    PRESETS,
    PackagedModel,
    Preset,
    RequantisedModel,
    locate,
    resolve,
)
from edge_agent.models.pull import pull
from shared.config.model_files import cached_path, default_cache_dir
from shared.errors import ModelError
from tests.support.models.real_models import real_model

CONTENT = b"GGUF" + bytes(range(256)) * 64
MEMBER = "birds/wren.gguf"
WREN = PackagedModel(
    name="wren",
    licence="Apache-2.0",
    requirement="birds==1.0",
    member=MEMBER,
    download_bytes=1000,
    size_bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)
SMALL_WREN = RequantisedModel(
    name="wren-small",
    licence="Apache-2.0",
    source_name="wren",
    file_type="Q2_K",
    size_bytes=10,
    num_tensors=2,
)
BIRDS: MappingProxyType[str, Preset] = MappingProxyType({"wren": WREN, "wren-small": SMALL_WREN})


class RecordedProgress:
    """What a pull told: (title, total) of its stages, and the last step of each."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int | None]] = []
        self.last: list[int] = []

    def begin_stage(self, title: str, total: int | None = None) -> None:
        self.stages.append((title, total))
        self.last.append(0)

    def update(self, num_done: int) -> None:
        self.last[-1] = num_done


class FakeIndex:
    """Hands out one wheel and counts how often."""

    def __init__(self, content: bytes = CONTENT, member: str = MEMBER) -> None:
        self.num_downloads = 0
        self._content = content
        self._member = member

    def download(self, requirement: str, directory: Path, on_bytes: Callable[[int], None]) -> Path:
        assert "birds==1.0" == requirement
        self.num_downloads += 1
        wheel = directory / "birds-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("birds/__init__.py", "raise SystemExit('nobody imports this')")
            archive.writestr(self._member, self._content)
        on_bytes(1000)
        return wheel


def cut_in_half(
    source: Path, destination: Path, file_type: str, on_tensor: Callable[[int], None]
) -> None:
    assert "Q2_K" == file_type
    content = source.read_bytes()
    destination.write_bytes(content[: len(content) // 2])
    on_tensor(2)


class Birdhouse:
    """A cache directory and what fills it."""

    def __init__(self, cache_dir: Path) -> None:
        self.cache_dir = cache_dir
        self.index = FakeIndex()
        self.progress = RecordedProgress()

    def pull(self, name: str) -> Path:
        self.progress = RecordedProgress()
        return pull(
            name, self.cache_dir, self.progress, self.index.download, cut_in_half, presets=BIRDS
        )

    def names(self) -> list[str]:
        return sorted(path.name for path in self.cache_dir.iterdir())


@pytest.fixture
def birdhouse(tmp_path: Path) -> Birdhouse:
    return Birdhouse(tmp_path / "models")


def test_a_packaged_model_is_downloaded_unpacked_and_verified(birdhouse: Birdhouse) -> None:
    path = birdhouse.pull("wren")
    assert CONTENT == path.read_bytes()
    assert WREN.sha256 == recorded_sha256(path)
    assert [".lock", "wren.gguf", "wren.gguf.sha256"] == birdhouse.names()
    assert [
        ("downloading birds==1.0", 1000),
        ("unpacking", len(CONTENT)),
        ("verifying sha256", len(CONTENT)),
    ] == birdhouse.progress.stages
    assert [1000, len(CONTENT), len(CONTENT)] == birdhouse.progress.last


def test_an_intact_model_is_not_downloaded_again(birdhouse: Birdhouse) -> None:
    birdhouse.pull("wren")
    birdhouse.pull("wren")
    assert 1 == birdhouse.index.num_downloads
    assert [("verifying sha256", len(CONTENT))] == birdhouse.progress.stages


def test_a_damaged_model_is_downloaded_again(birdhouse: Birdhouse) -> None:
    path = birdhouse.pull("wren")
    path.write_bytes(CONTENT[:-1] + b"!")
    assert CONTENT == birdhouse.pull("wren").read_bytes()
    assert 2 == birdhouse.index.num_downloads


def test_a_requantised_model_brings_its_source_and_records_its_own_checksum(
    birdhouse: Birdhouse,
) -> None:
    path = birdhouse.pull("wren-small")
    half = CONTENT[: len(CONTENT) // 2]
    assert half == path.read_bytes()
    assert hashlib.sha256(half).hexdigest() == recorded_sha256(path)
    assert CONTENT == resolve("wren", birdhouse.cache_dir, BIRDS).read_bytes()
    assert ("requantising to Q2_K", 2) in birdhouse.progress.stages


def test_a_made_model_that_is_cut_never_replaces_a_whole_one(
    birdhouse: Birdhouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = cached_path(birdhouse.cache_dir, "wren-small")
    older.parent.mkdir()
    older.write_bytes(b"the older one, without its checksum")
    monkeypatch.setattr("edge_agent.draft_model.requantise.requantise", cut_in_half)
    with pytest.raises(ModelError, match=r"is not (whole|a GGUF file)"):
        pull(
            *("wren-small", birdhouse.cache_dir, birdhouse.progress, birdhouse.index.download),
            presets=BIRDS,
        )
    assert b"the older one, without its checksum" == older.read_bytes()
    assert recorded_sha256(older) is None


def test_an_intact_requantised_model_is_not_made_again(birdhouse: Birdhouse) -> None:
    path = birdhouse.pull("wren-small")
    made_at = path.stat().st_mtime_ns
    birdhouse.pull("wren-small")
    assert made_at == path.stat().st_mtime_ns


@pytest.mark.parametrize(
    "content", [CONTENT[:-1], CONTENT[:-1] + b"!", CONTENT + b"!", CONTENT * 100]
)
def test_other_bytes_than_the_pinned_ones_are_refused(birdhouse: Birdhouse, content: bytes) -> None:
    birdhouse.index = FakeIndex(content)
    with pytest.raises(ModelError, match=rf"has the sha256 .* instead of {WREN.sha256}"):
        birdhouse.pull("wren")
    assert [".lock"] == birdhouse.names()


def test_a_wheel_without_the_model_is_refused(birdhouse: Birdhouse) -> None:
    birdhouse.index = FakeIndex(member="birds/tit.gguf")
    with pytest.raises(ModelError, match=r"birds-1\.0-py3-none-any\.whl has no intact birds/wren"):
        birdhouse.pull("wren")
    assert [".lock"] == birdhouse.names()


def test_a_failed_pull_leaves_the_older_file_in_place(birdhouse: Birdhouse) -> None:
    birdhouse.pull("wren").write_bytes(b"GGUF damaged")
    birdhouse.index = FakeIndex(b"wrong, too")
    with pytest.raises(ModelError, match="sha256"):
        birdhouse.pull("wren")
    assert b"GGUF damaged" == (birdhouse.cache_dir / "wren.gguf").read_bytes()


@pytest.mark.parametrize("stage", ["downloading birds==1.0", "unpacking", "verifying sha256"])
def test_an_interruption_at_any_stage_leaves_nothing_behind(
    birdhouse: Birdhouse, stage: str
) -> None:
    class InterruptedProgress(RecordedProgress):
        def update(self, num_done: int) -> None:
            if self.stages[-1][0] == stage:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(
            "wren",
            birdhouse.cache_dir,
            InterruptedProgress(),
            birdhouse.index.download,
            presets=BIRDS,
        )
    assert [".lock"] == birdhouse.names()


def test_a_directory_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    occupied = tmp_path / "models"
    occupied.write_text("a file, not a directory")
    with pytest.raises(ModelError, match=f"cannot keep wren in {occupied}: File exists"):
        Birdhouse(occupied).pull("wren")


def test_a_model_that_was_never_pulled_names_the_command(tmp_path: Path) -> None:
    sentence = f"wren is neither a file nor in {tmp_path}: goodspeed-agent model pull wren$"
    with pytest.raises(ModelError, match=sentence):
        resolve("wren", tmp_path, BIRDS)


def test_a_damaged_model_is_not_handed_out(birdhouse: Birdhouse) -> None:
    path = birdhouse.pull("wren-small")
    path.write_bytes(b"GGUF damaged")
    with pytest.raises(ModelError, match=r"is damaged, .*: goodspeed-agent model pull wren-small"):
        resolve("wren-small", birdhouse.cache_dir, BIRDS)
    assert path == locate("wren-small", birdhouse.cache_dir, BIRDS)


def test_a_made_model_without_its_checksum_is_not_handed_out(birdhouse: Birdhouse) -> None:
    path = birdhouse.pull("wren-small")
    path.with_name("wren-small.gguf.sha256").unlink()
    with pytest.raises(ModelError, match="no sha256 beside it: goodspeed-agent model pull wren-s"):
        resolve("wren-small", birdhouse.cache_dir, BIRDS)


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(CONTENT)
    assert path == resolve(str(path), tmp_path / "models", BIRDS)
    assert path == pull(str(path), tmp_path / "models", RecordedProgress(), presets=BIRDS)


def test_a_directory_is_no_draft_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no file; a draft model is one GGUF file"):
        resolve(str(tmp_path), tmp_path / "models", BIRDS)


@pytest.mark.parametrize("name", ["wren", "wren-small"])
def test_a_file_that_only_has_a_models_name_is_not_taken_for_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(ModelError, match=f": goodspeed-agent model pull {name}$"):
        resolve(name, tmp_path / "models", BIRDS)


def test_a_path_with_a_recorded_checksum_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(CONTENT)
    (tmp_path / "own.gguf.sha256").write_text(f"{'0' * 64}  own.gguf\n")
    with pytest.raises(ModelError, match=f"damaged, its sha256 is not {'0' * 64}$"):
        resolve(str(path), tmp_path, BIRDS)


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="owl is neither a file nor one of wren, wren-small"):
        pull("owl", tmp_path, RecordedProgress(), presets=BIRDS)


def test_every_requantised_preset_has_a_packaged_source() -> None:
    sources = {
        preset.source_name for preset in PRESETS.values() if isinstance(preset, RequantisedModel)
    }
    assert all(isinstance(PRESETS[source], PackagedModel) for source in sources)


def test_the_real_model_has_the_pinned_bytes() -> None:
    preset = PRESETS["smollm2-135m-instruct"]
    assert isinstance(preset, PackagedModel)
    path = real_model(preset.name)
    assert default_cache_dir(os.environ) == path.parent
    assert (preset.size_bytes, preset.sha256) == (path.stat().st_size, sha256_of(path))
