from __future__ import annotations

import pytest

from tests.support.programs.command import environment, run


def test_settings_of_ours_reach_no_program_but_where_models_are_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOODSPEED__SERVER__PORT", "1")
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    monkeypatch.setenv("GOODSPEED_MODEL_DIR", "/models")
    kept = environment({"MORE": "yes"})
    assert {"GOODSPEED__SERVER__PORT", "JOURNAL_STREAM"}.isdisjoint(kept)
    assert ("/models", "yes") == (kept["GOODSPEED_MODEL_DIR"], kept["MORE"])


def test_a_command_that_ends_leaves_its_code_and_both_outputs() -> None:
    script = "import sys; print('out'); print('errors', file=sys.stderr); sys.exit(3)"
    assert (3, "out\n", "errors\n") == run(["-c", script])
