"""A board on which llama.cpp does not load is told why, in one sentence."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edge_agent.draft_model.llama_binding import why_missing
from tests.support.programs.command import AGENT, PATIENCE_SECONDS, ROOT, environment

LOADING = "Failed to load shared library '/opt/x/libllama.so': "


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            ModuleNotFoundError("No module named 'llama_cpp'"),
            "llama.cpp is not installed: pip install 'goodspeed[agent]'",
        ),
        (
            RuntimeError(
                f"{LOADING}libgomp.so.1: cannot open shared object file: No such file or directory"
            ),
            "llama.cpp does not load, for libgomp.so.1 is missing: apt install libgomp1",
        ),
        (
            RuntimeError(f"{LOADING}libcudart.so.12: cannot open shared object file: No such file"),
            "llama.cpp does not load, for libcudart.so.12 is missing",
        ),
        (RuntimeError(f"{LOADING}bad ELF"), f"llama.cpp does not load: {LOADING}bad ELF"),
    ],
)
def test_the_sentence_names_what_is_missing_and_the_way_out(
    error: Exception, sentence: str
) -> None:
    assert sentence == why_missing(error)


@pytest.mark.parametrize("command", ["doctor", "run"])
def test_a_program_ends_with_the_sentence(tmp_path: Path, command: str) -> None:
    broken = tmp_path / "llama_cpp"
    broken.mkdir()
    (broken / "__init__.py").write_text(
        f"raise RuntimeError({LOADING + 'libgomp.so.1: cannot open shared object file'!r})\n"
    )
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    settings = {
        "verifier.url": "ws://127.0.0.1:1",
        "verifier.token": f"gsd_kitchen_{'A' * 43}",
        "draft.model": model,
        "api.port": 0,
    }
    ended = subprocess.run(
        [*AGENT, command, *(f"--set={key}={value}" for key, value in settings.items())],
        cwd=ROOT,
        env=environment({"PYTHONPATH": f"{tmp_path}:{ROOT}"}),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert 2 == ended.returncode, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.endswith("libgomp.so.1 is missing: apt install libgomp1\n")
