"""How many answers to which prompts is read, and every number has its limit."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.api.openai_request import (
    read_chat_request,
    read_completion_request,
    read_socket_request,
)
from edge_agent.generation.generation import GenerationRequest
from shared.errors import RequestRefused
from shared.protocol.messages import MAX_63_BITS

USER = {"role": "user", "content": "hi"}


def asked_of(prompt: object, **fields: Any) -> list[tuple[str, tuple[int, ...], int | None]]:
    """Text, tokens and seed of every generation."""
    asked = read_completion_request({"prompt": prompt, **fields})
    every: list[GenerationRequest] = [asked.generation, *asked.others]
    return [(one.text, one.prompt_ids, one.seed) for one in every]


def test_each_of_several_choices_has_a_seed_of_its_own_or_any() -> None:
    assert [("x", (), 7), ("x", (), 8), ("x", (), 9)] == asked_of("x", n=3, seed=7)
    assert [("x", (), None), ("x", (), None)] == asked_of("x", n_cmpl=2)
    assert [("x", (), MAX_63_BITS), ("x", (), 0)] == asked_of("x", n=2, seed=MAX_63_BITS)


def test_several_prompts_come_in_their_order_each_as_often_as_is_wanted() -> None:
    assert [("a", (), 1), ("a", (), 2), ("b", (), 3), ("b", (), 4)] == asked_of(
        ["a", "b"], n=2, seed=1
    )


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ([1, 2, 3], [(1, 2, 3)]),
        ([[1, 2], [3]], [(1, 2), (3,)]),
        (["a", [5]], [(), (5,)]),
    ],
)
def test_a_prompt_may_be_token_ids(prompt: object, expected: list[tuple[int, ...]]) -> None:
    assert expected == [token_ids for _, token_ids, _ in asked_of(prompt)]


def test_a_chat_may_want_several_answers() -> None:
    asked = read_chat_request({"messages": [USER], "n": 4, "seed": 1})
    assert ([2, 3, 4], 4) == ([one.seed for one in asked.others], asked.num_choices)
    assert all(one.messages == asked.generation.messages for one in asked.others)


def test_no_token_may_be_wanted_at_all() -> None:
    for fields in ({"max_tokens": 0}, {"max_completion_tokens": 0}, {"n_predict": 0.0}):
        asked = read_completion_request({"prompt": "x", **fields})
        assert (True, 1) == (asked.writes_nothing, asked.generation.max_tokens)
    assert not read_completion_request({"prompt": "x"}).writes_nothing


def test_a_prompt_may_be_said_again() -> None:
    assert read_completion_request({"prompt": ["a", "b"], "echo": True}).echoes_prompt
    assert not read_completion_request({"prompt": "a", "echo": False}).echoes_prompt


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (False, None)),
        ({"logprobs": 2}, (False, None)),
        ({"echo": True}, (True, None)),
        ({"echo": True, "logprobs": 2}, (True, 2)),
        ({"echo": True, "logprobs": 2, "prompt_logprobs": 4}, (True, 4)),
        ({"prompt_logprobs": 0}, (True, 0)),
    ],
)
def test_the_log_probabilities_of_a_prompt_may_be_wanted_in_two_ways(
    fields: dict[str, Any], expected: tuple[bool, int | None]
) -> None:
    generation = read_completion_request({"prompt": [5], **fields}).generation
    assert expected == (generation.tells_prompt, generation.num_prompt_logprobs)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (1, 1, None, False)),
        ({"n": 2, "best_of": 0}, (2, 2, None, False)),
        ({"n": 2, "best_of": 2, "stream": True}, (2, 2, None, False)),
        ({"best_of": 4}, (4, 1, 0, True)),
        ({"n": 2, "best_of": 4, "logprobs": 3}, (4, 2, 3, False)),
    ],
)
def test_of_many_answers_the_best_may_be_wanted(
    fields: dict[str, Any], expected: tuple[int, int, int | None, bool]
) -> None:
    asked = read_completion_request({"prompt": ["a", "b"], **fields})
    assert 2 * asked.num_choices == 1 + len(asked.others)
    num_choices = asked.num_choices, asked.num_told
    assert expected == (*num_choices, asked.generation.num_logprobs, asked.hides_logprobs)


@pytest.mark.parametrize(
    ("fields", "field", "sentence"),
    [
        ({"n": 0}, "n", "expected integer >= 1"),
        ({"n": 65}, "n", "expected integer <= 64"),
        ({"n": 1e308}, "n", "n = "),
        ({"n": "2"}, "n", "expected integer, got string"),
        ({"n_cmpl": -1}, "n_cmpl", "expected integer >= 1"),
        ({"prompt": ["x"] * 33, "n": 2}, "n", "n = 2: 66 answers exceed 64"),
        ({"prompt": ["x"] * 65}, "prompt", "65 prompts exceed 64"),
        ({"prompt": [1, -1]}, "prompt[1]", "expected integer >= 0"),
        ({"prompt": ["a", [1 << 24]]}, "prompt[1][0]", "expected integer <= 16777215"),
        ({"prompt": [["a"]]}, "prompt[0]", "expected integer, got string"),
        ({"prompt": {"a": 1}}, "prompt", "must be a text or token ids, not an object"),
        ({"best_of": 2, "n": 3}, "best_of", "must be at least n = 3"),
        ({"best_of": 3, "stream": True}, "best_of", "ask without stream"),
        ({"best_of": 65}, "best_of", "expected integer <= 64"),
        ({"prompt": ["x"] * 33, "best_of": 2}, "best_of", "best_of = 2: 66 answers exceed 64"),
        ({"prompt_logprobs": 21}, "prompt_logprobs", "expected integer <= 20"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs", "ask without stream"),
        ({"max_tokens": 0, "min_tokens": 1}, "min_tokens", "min_tokens = 1 exceed 0"),
    ],
)
def test_what_is_no_wish_is_refused_by_name(
    fields: dict[str, Any], field: str, sentence: str
) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_completion_request({"prompt": "x", **fields})
    assert (field, True) == (refused.value.field, sentence in str(refused.value))


@pytest.mark.parametrize("fields", [{"n": 2}, {"logprobs": True}, {"max_tokens": 0}])
def test_a_socket_has_one_answer_of_text_alone(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused) as refused:
        read_socket_request({"messages": [USER], **fields})
    assert next(iter(fields)) == refused.value.field
    assert read_socket_request({"messages": [USER], "n": 1}).generation.messages
