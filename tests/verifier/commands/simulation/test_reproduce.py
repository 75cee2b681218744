"""`goodspeed-verifier reproduce`: pages, pictures and figures, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from verifier.cli import main
from verifier.commands.simulation import reproduce
from verifier.commands.simulation.reproduce import Written
from verifier.reproduction.page import Claim, Page


class Figures(msgspec.Struct):
    """Stands for a paper's."""

    number: int


def paper(num_seeds: int, command: str, advance: reproduce.Advance) -> Written:
    advance(1.0)
    claim = Claim("it is fast", "2", str(num_seeds), "not", "it is slow")
    page = Page("A paper", command, "Simulated.", (claim,), ())
    return Written(page, {"it.svg": b"<svg/>"}, Figures(num_seeds))


def stopped(num_seeds: int, command: str, advance: reproduce.Advance) -> Written:
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def two_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    for name in reproduce.PAPERS:
        monkeypatch.setitem(reproduce.PAPERS, name, paper)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["reproduce", *map(str, arguments)])


def test_all_papers_get_their_files(tmp_path: Path) -> None:
    result = call("all", "--directory", tmp_path, "--seeds", 3)
    assert 0 == result.exit_code, result.output
    names = {f"{name}.{ending}" for name in reproduce.PAPERS for ending in ("md", "json")}
    assert names | {"it.svg"} == {file.name for file in tmp_path.iterdir()}
    assert "not: it is fast: paper 2; here 3" in result.output


def test_the_page_names_the_command_that_wrote_it(tmp_path: Path) -> None:
    name = next(iter(reproduce.PAPERS))
    assert 0 == call(name, "--directory", tmp_path, "--seeds", 3).exit_code
    assert f"reproduce {name} --seeds 3`" in (tmp_path / f"{name}.md").read_text()
    assert 0 == call(name, "--directory", tmp_path).exit_code
    assert f"reproduce {name}`" in (tmp_path / f"{name}.md").read_text()


def test_a_run_that_is_interrupted_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = next(iter(reproduce.PAPERS))
    monkeypatch.setitem(reproduce.PAPERS, name, stopped)
    page = tmp_path / f"{name}.md"
    page.write_text("what was there")
    result = call(name, "--directory", tmp_path)
    assert (130, [page]) == (result.exit_code, list(tmp_path.iterdir()))
    assert "what was there" == page.read_text()


def test_a_paper_that_is_not_known_is_one_sentence() -> None:
    result = call("dsdd")
    assert (2, True) == (result.exit_code, "heterogeneous-edge" in result.output)
