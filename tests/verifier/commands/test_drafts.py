"""`goodspeed-verifier drafts`: the registry by its command line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shared.protocol.handed_drafts.draft_judgement import DraftJudgement, pack_judgements
from tests.support.models.tiny_gguf import write_tiny_llama
from tests.verifier.commands.test_devices import House
from verifier.cli import main
from verifier.engine.device_terms import FILE_NAME, read_terms


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "wren.gguf"
    write_tiny_llama(path)
    return path


def drafts(house: House, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["drafts", *arguments, "--config", str(house.settings)])


def listed(house: House) -> dict[str, dict[str, object]]:
    report = json.loads(drafts(house, "ls", "--json").stdout)
    return {draft["name"]: draft for draft in report["drafts"]}


def test_a_draft_is_added_described_assigned_and_removed(house: House, file: Path) -> None:
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert 0 == drafts(house, "add", str(file), "--label", "code", "--licence", "MIT").exit_code
    found = listed(house)["wren"]
    assert (sha256, file.stat().st_size) == (found["sha256"], found["num_bytes"])
    assert (["code"], "MIT", "llama") == (found["labels"], found["licence"], found["architecture"])
    assert found["num_weights"]
    assert 0 == drafts(house, "assign", "kitchen", "wren").exit_code
    assert ["kitchen"] == listed(house)["wren"]["devices"]
    (line,) = (line for line in drafts(house, "ls").stdout.splitlines() if "wren" in line)
    assert [str(found["vocabulary"]), "kitchen"] == line.split()[-2:]
    assert "drafts wren" in house.devices("ls").stdout
    assert 0 == drafts(house, "assign", "kitchen", "none").exit_code
    assert {} == read_terms(house.state / FILE_NAME).by_device
    assert 0 == drafts(house, "rm", "wren").exit_code
    assert {} == listed(house)


def test_drafts_of_one_vocabulary_are_seen_to_be(house: House, file: Path, tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "finch.gguf", seed=1)
    for name in ("wren", "finch"):
        assert 0 == drafts(house, "add", str(tmp_path / f"{name}.gguf")).exit_code
    found = listed(house)
    assert found["wren"]["vocabulary"] == found["finch"]["vocabulary"]
    assert found["wren"]["sha256"] != found["finch"]["sha256"]


def test_a_judgement_of_the_very_file_is_kept(house: House, file: Path, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    accepted = {"greedy": {"code": 0.8, "qa": 0.6}, "0.8 coupled": {"code": 0.5}}
    judged = DraftJudgement("wren", sha256, 9, 1090.0, 880.0, accepted)
    told = tmp_path / "judged.json"
    told.write_bytes(pack_judgements([judged]))
    assert 0 == drafts(house, "add", str(file), "--judgement", str(told)).exit_code
    found = listed(house)["wren"]
    assert (pytest.approx(0.6), 1090.0) == (found["acceptance"], found["tokens_per_second"])
    other = DraftJudgement("finch", "0" * 64, 9, 1.0, 1.0, {})
    told.write_bytes(pack_judgements([other]))
    refused = drafts(house, "add", str(file), "--judgement", str(told), "--replace")
    assert refused.exit_code
    assert "judges other files than this one: finch" in refused.stderr
    told.write_bytes(b"{}")
    refused = drafts(house, "add", str(file), "--judgement", str(told), "--replace")
    assert "`goodspeed-agent model judge --json` writes one" in refused.stderr


def test_what_suits_a_board_may_be_left_to_the_verifier(house: House) -> None:
    assert 0 == drafts(house, "assign", "kitchen", "auto", "--label", "code").exit_code
    terms = read_terms(house.state / FILE_NAME).by_device["kitchen"]
    assert (("auto",), ("code",)) == (terms.drafts, terms.draft_labels)
    report = json.loads(drafts(house, "ls", "--json").stdout)
    assert ["kitchen"] == report["automatic"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("assign", "kitchen", "finch"), "has no draft finch; it has wren"),
        (("assign", "cellar", "wren"), "no device cellar"),
        (("assign", "kitchen", "wren", "--label", "code"), "is for auto"),
        (("assign", "kitchen", *"abcde"), "at most 4"),
        (("rm", "finch"), "has no draft finch"),
        (("add", "WREN"), "there is a draft wren already: --replace replaces it"),
        (("add", "WREN", "--name", "auto"), "--name auto: must be"),
        (("add", "WREN", "--name", "../x"), "--name ../x: must be"),
        (("add", "WREN", "--name", "x", "--label", "a b"), "--label a b: must be"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    house: House, file: Path, arguments: tuple[str, ...], words: str
) -> None:
    drafts(house, "add", str(file))
    before = listed(house)
    refused = drafts(house, *(str(file) if one == "WREN" else one for one in arguments))
    assert refused.exit_code
    assert words in refused.stderr
    assert before == listed(house)


def test_a_file_that_is_cut_or_no_draft_is_not_taken(
    house: House, file: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(file.read_bytes()[:-1])
    refused = drafts(house, "add", str(cut))
    assert refused.exit_code
    assert f"{cut} is cut: it has" in refused.stderr
    (tmp_path / "page.gguf").write_bytes(b"<html>")
    assert "is not a GGUF file" in drafts(house, "add", str(tmp_path / "page.gguf")).stderr
    assert {} == listed(house)


def test_without_a_directory_of_state_there_is_no_registry(house: House) -> None:
    house.settings.write_text(house.settings.read_text().split("[state]")[0])
    refused = drafts(house, "ls")
    assert 78 == refused.exit_code
    assert "state.directory: must be set; the registry of drafts is there" in refused.stderr


def test_a_licence_of_a_file_drives_no_terminal(house: House, tmp_path: Path) -> None:
    path = tmp_path / "wren.gguf"
    write_tiny_llama(
        path, edit=lambda writer: writer.add_string("general.license", "a\x1b[31mb\nc")
    )
    assert 0 == drafts(house, "add", str(path)).exit_code
    shown = drafts(house, "ls").stdout
    assert "\x1b" not in shown
    assert 2 == len(shown.strip().splitlines())
