"""Where model files are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.config.model_files import cached_path, default_cache_dir, locate
from shared.errors import ModelError


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"GOODSPEED_MODEL_DIR": "/m", "XDG_CACHE_HOME": "/x"}, Path("/m")),
        ({"XDG_CACHE_HOME": "/x"}, Path("/x/goodspeed/models")),
        (
            {"GOODSPEED_MODEL_DIR": "", "XDG_CACHE_HOME": ""},
            Path.home() / ".cache/goodspeed/models",
        ),
        ({}, Path.home() / ".cache/goodspeed/models"),
    ],
)
def test_the_directory_follows_the_environment(environment: dict[str, str], expected: Path) -> None:
    assert expected == default_cache_dir(environment, Path("/nowhere"))


def test_where_services_look_is_for_those_who_may_write_there(tmp_path: Path) -> None:
    assert tmp_path == default_cache_dir({"XDG_CACHE_HOME": "/x"}, tmp_path)
    assert Path("/m") == default_cache_dir({"GOODSPEED_MODEL_DIR": "/m"}, tmp_path)


@pytest.fixture
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with the model `wren`, beside an empty directory in which the program runs."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    cache_dir = tmp_path / "models"
    cache_dir.mkdir()
    cached_path(cache_dir, "wren").write_bytes(b"GGUF")
    return cache_dir


def test_a_name_is_looked_up_in_the_cache(cache_dir: Path) -> None:
    assert cache_dir / "wren.gguf" == locate("wren", cache_dir)


def test_nothing_beside_the_program_takes_the_place_of_a_name(cache_dir: Path) -> None:
    Path("wren").mkdir()
    assert cache_dir / "wren.gguf" == locate("wren", cache_dir)
    assert Path("wren") == locate("./wren", cache_dir)


@pytest.mark.parametrize("name", ["own.gguf", "safetensors", "./own.gguf", "{here}/own.gguf"])
def test_a_path_is_a_file_or_a_directory(name: str, cache_dir: Path) -> None:
    Path("own.gguf").write_bytes(b"GGUF")
    Path("safetensors").mkdir()
    name = name.format(here=Path.cwd())
    assert Path(name) == locate(name, cache_dir)


def test_a_path_may_begin_at_home(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    Path("own.gguf").write_bytes(b"GGUF")
    assert Path.cwd() / "own.gguf" == locate("~/own.gguf", cache_dir)


def test_a_slash_never_leads_out_of_the_cache(cache_dir: Path) -> None:
    cached_path(cache_dir.parent, "robin").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"there is no model at \.\./robin"):
        locate("../robin", cache_dir)


@pytest.mark.parametrize(
    ("name", "known", "sentence"),
    [
        (
            "robin",
            (),
            "model robin is neither a file nor in {cache}: goodspeed-agent model pull robin",
        ),
        (
            "robin",
            ("wren", "robin"),
            "model robin is neither a file nor in {cache}: goodspeed-agent model pull robin",
        ),
        ("owl", ("wren", "robin"), "model owl is neither a file nor one of wren, robin"),
        ("/nowhere/wren.gguf", ("wren",), "there is no model at /nowhere/wren.gguf"),
    ],
)
def test_a_missing_model_is_one_sentence(
    name: str, known: tuple[str, ...], sentence: str, cache_dir: Path
) -> None:
    with pytest.raises(ModelError) as raised:
        locate(name, cache_dir, known)
    assert sentence.format(cache=cache_dir) == str(raised.value)
