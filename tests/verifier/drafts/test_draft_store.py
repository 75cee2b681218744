"""The registry keeps whole files under names, whatever interrupts it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from shared.errors import ConfigError, ModelError, RequestRefused
from verifier.drafts import draft_store
from verifier.drafts.draft_store import MAX_DRAFTS, DraftStore, known_draft
from verifier.drafts.kept_draft import Catalogue, KeptDraft, pack_catalogue

CONTENT = b"GGUF" + os.urandom(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def describe(path: Path, sha256: str, num_bytes: int) -> KeptDraft:
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    return KeptDraft(sha256, num_bytes, "vocabulary")


@pytest.fixture
def store(tmp_path: Path) -> DraftStore:
    return DraftStore(tmp_path / "state" / "drafts")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "wren.gguf"
    path.write_bytes(CONTENT)
    return path


def files_of(store: DraftStore) -> list[str]:
    return sorted(path.name for path in store.directory.iterdir() if path.name != ".lock")


def test_what_is_added_is_there_with_its_checksum_until_it_is_removed(
    store: DraftStore, file: Path
) -> None:
    assert Catalogue() == store.catalogue()
    kept = store.add("wren", file, describe)
    assert (SHA256, len(CONTENT)) == (kept.sha256, kept.num_bytes)
    assert {"wren": kept} == dict(DraftStore(store.directory).catalogue().by_name)
    assert CONTENT == store.path_of(kept).read_bytes()
    store.remove("wren")
    assert Catalogue() == store.catalogue()
    assert ["drafts.json"] == files_of(store)


def test_a_name_is_taken_over_only_where_that_is_said(store: DraftStore, file: Path) -> None:
    before = store.add("wren", file, describe)
    file.write_bytes(CONTENT[::-1])
    with pytest.raises(RequestRefused, match="there is a draft wren already: --replace"):
        store.add("wren", file, describe)
    assert {"wren": before} == dict(store.catalogue().by_name)
    after = store.add("wren", file, describe, replaces=True)
    assert {"wren": after} == dict(store.catalogue().by_name)
    assert sorted(["drafts.json", f"{after.sha256}.gguf"]) == files_of(store)


def test_one_file_may_have_two_names(store: DraftStore, file: Path) -> None:
    kept = store.add("wren", file, describe)
    store.add("finch", file, describe)
    store.remove("wren")
    assert store.path_of(kept).exists()
    store.remove("finch")
    assert not store.path_of(kept).exists()


def test_what_is_no_draft_changes_nothing(store: DraftStore, file: Path) -> None:
    kept = store.add("wren", file, describe)

    def refuse(path: Path, sha256: str, num_bytes: int) -> KeptDraft:
        raise ModelError("it has no vocabulary")

    file.write_bytes(b"other")
    with pytest.raises(ModelError, match="no vocabulary"):
        store.add("wren", file, refuse, replaces=True)
    with pytest.raises(ModelError, match="cannot add"):
        store.add("finch", file.parent / "none.gguf", describe)
    assert {"wren": kept} == dict(store.catalogue().by_name)
    assert CONTENT == store.path_of(kept).read_bytes()
    assert sorted(["drafts.json", f"{SHA256}.gguf"]) == files_of(store)


def test_killed_before_the_catalogue_is_written_the_old_draft_is_the_one(
    store: DraftStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store.add("wren", file, describe)
    file.write_bytes(CONTENT[::-1])

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(draft_store, "replace_file", killed)
        with pytest.raises(KeyboardInterrupt):
            store.add("wren", file, describe, replaces=True)
    assert {"wren": kept} == dict(store.catalogue().by_name)
    assert CONTENT == store.path_of(kept).read_bytes()
    store.change("wren", lambda draft: draft)
    assert sorted(["drafts.json", f"{SHA256}.gguf"]) == files_of(store), "what was left is gone"


def test_what_is_not_there_is_named(store: DraftStore, file: Path) -> None:
    store.add("wren", file, describe)
    with pytest.raises(RequestRefused, match="has no draft finch; it has wren"):
        store.remove("finch")
    with pytest.raises(RequestRefused, match="it has none at all"):
        known_draft(Catalogue(), "finch")


def test_there_is_an_end_to_it(store: DraftStore, file: Path) -> None:
    kept = store.add("wren", file, describe)
    many = {f"wren-{i}": kept for i in range(MAX_DRAFTS)}
    store.catalogue_path.write_bytes(pack_catalogue(Catalogue(many)))
    with pytest.raises(RequestRefused, match=f"holds {MAX_DRAFTS} drafts already"):
        store.add("finch", file, describe)


def test_a_full_disk_is_told_before_anything_is_copied(
    store: DraftStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.directory.mkdir(parents=True)

    class Usage:
        free = 1_000_000

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage)
    with pytest.raises(ModelError, match="has 1 MB left, 3 are needed"):
        store.add("wren", file, describe)
    assert [] == files_of(store)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"a/b": {}}', b'{"a": {"sha256": "00"}}', b"\xff"]
)
def test_a_wrong_catalogue_is_a_problem_with_a_way_out(store: DraftStore, content: bytes) -> None:
    store.directory.mkdir(parents=True)
    store.catalogue_path.write_bytes(content)
    with pytest.raises(ConfigError, match="`goodspeed-verifier drafts add` fills it anew"):
        store.catalogue()
