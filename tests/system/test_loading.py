"""A verifier whose target takes its time to load, and boards that come meanwhile."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs.command import LAUNCHERS
from tests.support.programs.programs import Programs
from tests.support.programs.serving_program import ServingProgram

LOAD_SECONDS = 4


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as made:
        yield made


def loading_verifier(programs: Programs) -> ServingProgram:
    launcher = (*LAUNCHERS, "verifier", "--scripted", f"--load-seconds={LOAD_SECONDS}")
    return programs.verifier(launcher)


def status_of(verifier: ServingProgram) -> tuple[int, object] | None:
    """Code and text of its health; None while nothing listens."""
    try:
        with urllib.request.urlopen(f"{verifier.url}/healthz", timeout=2) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError:
        return None


# The file of a model that is there is looked at, though none is loaded.
@pytest.mark.parametrize("model", ["smollm2-18m", ""], ids=["with a model", "without"])
def test_boards_say_that_the_verifier_loads_and_are_there_when_it_is(
    programs: Programs, model: str
) -> None:
    token_file = programs.token_file("kitchen")
    verifier = loading_verifier(programs)
    launcher = (*LAUNCHERS, "agent", *(["--scripted"] if model else []))
    agent = programs.agent(
        f"ws://127.0.0.1:{verifier.port}", token_file, launcher, {"draft.model": model}
    )
    verifier.start()
    verifier.wait_for(lambda: status_of(verifier) is not None, "did not answer")
    assert (503, {"status": "loading"}) == status_of(verifier)
    agent.start()
    agent.line_with("the verifier is loading its model")
    assert (503, {"status": "loading"}) == status_of(verifier)
    verifier.line_with("serving scripted")
    agent.wait_until_ready()
    assert not [line for line in agent.lines if "no answer" in line]
