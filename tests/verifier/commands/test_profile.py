"""`goodspeed-verifier profile` as a person runs it, over a target that needs no torch."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.support.programs.command import run
from tests.support.programs.program import Program
from verifier.cost_curve.curve import CostCurve, CurveSubject

SUBJECT = CurveSubject(model="scripted", device="CPU", dtype="float32", quantisation="int8")
SCRIPTED = """
import sys
import verifier.startup
from shared.speculation.scripted_model import ScriptedModel
from tests.verifier.commands.test_profile import SUBJECT
from verifier.target.scripted_target import ScriptedTarget
from verifier.target.scripted_tokenizer import ScriptedTokenizer

def load(config, tell):
    tell("loading scripted")
    target = ScriptedTarget(
        ScriptedModel(8, seed=1), num_blocks=4, delay_seconds=lambda tokens: DELAY
    )
    return verifier.startup.LoadedTarget(target, ScriptedTokenizer(8), SUBJECT, False)

verifier.startup.load_configured_target = load
from verifier.cli import main
main(sys.argv[1:])
"""
SHORT_ROUNDS = ("--set", "rounds.max_round_tokens=4", "--set", "rounds.prefill_chunk_tokens=4")


def program(*arguments: str | Path, delay_seconds: float = 0.001) -> list[str]:
    script = SCRIPTED.replace("DELAY", str(delay_seconds))
    return ["-c", script, "profile", *SHORT_ROUNDS, *map(str, arguments)]


def test_the_table_is_printed_and_the_curve_saved_where_run_looks(tmp_path: Path) -> None:
    code, out, errors = run(program("--set", f"state.directory={tmp_path}"))
    path = tmp_path / "scripted.curve.json"
    assert (0, f"saved to {path}") == (code, out.splitlines()[-1])
    assert "scripted on CPU, float32, int8 weights" == out.splitlines()[0]
    assert "streams  1  8  32  64" in out
    curve = CostCurve.from_json(path.read_bytes(), SUBJECT)
    assert (1, 2, 4) == curve.num_tokens
    assert (64,) == curve.context_tokens
    # Nobody looks at a terminal here: lines instead of a bar.
    assert [
        "loading scripted",
        *(f"measured {number} of 18 rounds" for number in range(3, 19, 3)),
    ] == errors.splitlines()


def test_the_curve_goes_where_one_says(tmp_path: Path) -> None:
    path = tmp_path / "curve.json"
    code, out, _ = run(program("--output", path, "--set", f"state.directory={tmp_path / 'state'}"))
    assert (0, f"saved to {path}") == (code, out.splitlines()[-1])
    assert [path] == list(tmp_path.iterdir())


def test_without_a_place_nothing_is_saved_and_that_is_said() -> None:
    code, out, _ = run(program())
    assert 0 == code
    assert "not saved: set state.directory, or give --output FILE" == out.splitlines()[-1]


def test_an_interrupt_is_one_sentence_and_leaves_no_file(tmp_path: Path) -> None:
    path, log = tmp_path / "curve.json", tmp_path / "log"
    command = [sys.executable, *program("--output", path, delay_seconds=0.3)]
    with Program("profile", command, log) as started:
        started.line_with("measured 3 of 18")
        code, _ = started.end(signal.SIGINT)
    assert 130 == code
    assert "stopped before all rounds were measured; nothing was saved" == started.lines[-1]
    assert [log] == list(tmp_path.iterdir())


def test_a_place_where_nothing_can_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, errors = run(program("--output", tmp_path / "file" / "curve.json"))
    assert 2 == code
    assert errors.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in errors


REAL = "import sys; from verifier.cli import main; main(sys.argv[1:])"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["target.device=cuda:77"], "target.device is cuda:77, but "),
        (["target.model=nowhere/model"], "there is no model at nowhere/model"),
    ],
)
def test_a_target_that_cannot_be_loaded_is_one_sentence(settings: list[str], words: str) -> None:
    arguments = [part for setting in settings for part in ("--set", setting)]
    code, _, errors = run(["-c", REAL, "profile", *arguments])
    assert 2 == code
    assert f"error: {words}" in errors.splitlines()[-1]
    assert "Traceback" not in errors
