from __future__ import annotations

from typing import Any

import pytest

from edge_agent.api.openai_request import read_chat_request
from edge_agent.chat.chat_settings import SETTINGS, changed, known_settings, listing
from shared.errors import RequestRefused

TYPED = {
    "temperature": "0.7",
    "top_p": "0.9",
    "top_k": "40",
    "seed": "7",
    "max_tokens": "100",
    "stop": r"\n\n",
    "min_p": "0.05",
    "frequency_penalty": "0.5",
    "presence_penalty": "-0.5",
    "repetition_penalty": "1.1",
    "reasoning_effort": "low",
    "acceptance_mode": "coupled",
    "draft_length": "0",
}


def all_set() -> dict[str, Any]:
    settings: dict[str, object] = {}
    for name, text in TYPED.items():
        settings = changed(settings, name, text)
    return settings


def test_every_setting_is_honoured_by_the_agent() -> None:
    assert TYPED.keys() == {setting.name for setting in SETTINGS}
    fields = {"messages": [{"role": "user", "content": "x"}], **all_set()}
    asked = read_chat_request(fields)
    generation = asked.generation
    processors = generation.processors
    assert (0.05, 1.1) == (processors.min_p, processors.repetition_penalty)
    assert (0.5, -0.5) == (processors.frequency_penalty, processors.presence_penalty)
    sampling = generation.sampling
    assert (0.7, 0.9, 40) == (sampling.temperature, sampling.top_p, sampling.top_k)
    assert (7, 100, ("\n\n",)) == (generation.seed, generation.max_tokens, generation.stop)
    assert ("coupled", 0) == (generation.acceptance_mode, generation.draft_length)
    assert "low" in generation.template.arguments
    assert () == asked.ignored


def test_a_setting_is_left_open_again() -> None:
    settings = all_set()
    for name in TYPED:
        settings = changed(settings, name, "default")
    assert {} == settings


def test_settings_of_a_file_are_the_same() -> None:
    assert all_set() == known_settings(all_set())


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("warmth", "1", "there is no setting warmth: it is one of temperature, top_p"),
        ("temperature", "hot", "temperature = hot: expected a number"),
        ("temperature", "-1", "temperature = -1: expected a number >= 0"),
        ("top_k", "1.5", "top_k = 1.5: expected a whole number"),
        ("acceptance_mode", "both", "acceptance_mode = both"),
    ],
)
def test_what_is_no_value_is_one_sentence(name: str, text: str, sentence: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        changed({}, name, text)
    assert str(refused.value).startswith(sentence)


def test_the_list_shows_what_is_set_and_what_is_left_open() -> None:
    lines = listing(changed({"seed": 7}, "draft_length", "3")).splitlines()
    values = {line.split()[0]: line.split()[1] for line in lines[:-1]}
    assert ("7", "3", "default") == (values["seed"], values["draft_length"], values["top_p"])
