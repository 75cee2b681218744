"""A draft goes from the registry to a board that runs, by all programs as people run them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import urllib.request
from pathlib import Path

from tests.support.models.tiny_gguf import write_tiny_llama
from tests.support.programs.command import ROOT, VERIFIER, environment
from tests.support.programs.programs import Programs
from tests.support.programs.serving_program import ServingProgram


def drafts(settings: dict[str, object], *arguments: str) -> str:
    """What `goodspeed-verifier drafts` says."""
    given = [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]
    ended = subprocess.run(
        [*VERIFIER, "drafts", *arguments, *given],
        cwd=ROOT,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert 0 == ended.returncode, ended.stderr
    return ended.stdout


def answer(agent: ServingProgram) -> str:
    """Of the board's API, greedily."""
    request = {"model": "any", "prompt": "hello there", "max_tokens": 24, "temperature": 0}
    asked = urllib.request.Request(
        f"{agent.url}/v1/completions",
        json.dumps(request).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=60) as answered:
        text: str = json.load(answered)["choices"][0]["text"]
    return text


def test_a_board_that_runs_fetches_what_it_is_assigned_and_drafts_with_it(tmp_path: Path) -> None:
    target, own, little = (tmp_path / f"{name}.gguf" for name in ("target", "own", "little"))
    for seed, path in enumerate((target, own, little)):
        write_tiny_llama(path, seed=seed)
    sha256 = hashlib.sha256(little.read_bytes()).hexdigest()
    settings: dict[str, object] = {
        "target.model": str(target),
        "target.context_tokens": 128,
        "target.kv_cache_tokens": 2048,
        "state.directory": str(tmp_path / "state"),
    }
    with Programs(tmp_path) as programs:
        token_file = programs.token_file("board")
        verifier = programs.verifier(settings=settings)
        verifier.start()
        verifier.wait_until_ready()
        url = f"ws://127.0.0.1:{verifier.port}"
        board = {
            "draft.model": str(own),
            "draft.context_tokens": 128,
            "draft.assigned_megabytes": 10,
        }
        cache = {"GOODSPEED_MODEL_DIR": str(tmp_path / "cache")}
        agent = programs.agent(url, token_file, settings=board, environment=cache)
        agent.start()
        agent.wait_until_ready()
        before = answer(agent)
        asked = {
            **settings,
            "server.port": verifier.port,
            "server.tokens_file": str(tmp_path / "tokens"),
        }
        drafts(asked, "add", str(little))
        drafts(asked, "assign", "board", "little", "--first")
        agent.line_with("the draft little is ready for new streams")
        verifier.line_with("device board holds the draft little")
        assert before == answer(agent), "the text is the target's own"
        assert "board (in use)" in drafts(asked, "ls")
        fetched = tmp_path / "cache" / "assigned" / sha256 / "little.gguf"
        assert little.read_bytes() == fetched.read_bytes()
        drafts(asked, "assign", "board", "none")
        agent.line_with("the draft little is given up")
        assert before == answer(agent)
