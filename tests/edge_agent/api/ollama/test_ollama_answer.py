from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from edge_agent.api.answers.spoken_answer import SpokenAnswer
from edge_agent.api.ollama.ollama_answer import (
    OllamaAnswer,
    model_details,
    model_tags,
    names_model,
    running_models,
)
from edge_agent.generation.generation import Finished, TextPiece
from tests.support.messages.timings import TIMINGS

FINISHED = Finished("length", TIMINGS, seed=7, acceptance_mode="rejection")
HEAD = {"model": "target", "created_at": "2026-11-26T12:00:00Z"}
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
END = {
    "done": True,
    "done_reason": "length",
    "total_duration": 1_500_000_000,
    "prompt_eval_count": 10,
    "prompt_eval_duration": 500_000_000,
    "eval_count": 5,
    "eval_duration": 1_000_000_000,
}


@pytest.mark.parametrize(
    ("is_chat", "said", "nothing"),
    [
        (
            True,
            {"message": {"role": "assistant", "content": "é"}},
            {"message": {"role": "assistant", "content": ""}},
        ),
        (False, {"response": "é"}, {"response": ""}),
    ],
)
def test_an_answer_is_one_object_or_lines_and_its_durations_are_those_that_were_measured(
    is_chat: bool, said: dict[str, object], nothing: dict[str, object]
) -> None:
    shape = OllamaAnswer("target", NOW, is_chat=is_chat)
    assert {**HEAD, **said, **END} == shape.whole(SpokenAnswer("é"), FINISHED)
    piece = shape.piece(TextPiece("é", "target"))
    assert piece.endswith(b"\n")
    assert {**HEAD, **said, "done": False} == json.loads(piece)
    assert {**HEAD, **nothing, **END} == json.loads(shape.ending(FINISHED))


def test_what_is_not_known_of_a_model_is_not_made_up() -> None:
    (model,) = model_tags("target")["models"]
    assert ("target", 0, "") == (model["name"], model["size"], model["digest"])
    assert [] == model_tags(None)["models"] == running_models(None, None)["models"]
    assert "context_length" not in running_models("target", None)["models"][0]
    assert {"general.name": "target"} == model_details("target", None)["model_info"]


@pytest.mark.parametrize(
    ("asked", "model", "is_it"),
    [
        ("target", "target", True),
        ("target:latest", "target", True),
        ("target:8b", "target", False),
        ("target", None, False),
    ],
)
def test_a_model_goes_by_its_name_with_the_usual_tag_or_without(
    asked: str, model: str | None, is_it: bool
) -> None:
    assert is_it is names_model(asked, model)
