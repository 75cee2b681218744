"""A prompt is known when all of it was told, in order, or when its ids were given."""

from __future__ import annotations

import pytest

from edge_agent.drafting.told_prompt import ToldPrompt
from shared.errors import RemoteProtocolError
from shared.protocol.messages import Opened, PromptPart
from shared.protocol.token_ids import pack_token_ids

VOCAB_SIZE = 64


def told(ids: list[int], num_prompt_tokens: int = 0, known: tuple[int, ...] = ()) -> ToldPrompt:
    prompt = pack_token_ids(ids)
    message = Opened(1, prompt, 7, "coupled", num_prompt_tokens=num_prompt_tokens)
    return ToldPrompt(message, known, VOCAB_SIZE)


def part(offset: int, *ids: int) -> PromptPart:
    return PromptPart(1, offset, pack_token_ids(ids))


def test_a_short_prompt_is_told_with_opened() -> None:
    prompt = told([1, 2, 3])
    assert ((1, 2, 3), 3) == (prompt.token_ids, prompt.num_tokens)


def test_a_long_one_is_known_with_its_last_part() -> None:
    prompt = told([1, 2], 5)
    assert (None, 5) == (prompt.token_ids, prompt.num_tokens)
    prompt.read(part(2, 3))
    assert prompt.token_ids is None
    prompt.read(part(3, 4, 5))
    assert (1, 2, 3, 4, 5) == prompt.token_ids


def test_ids_that_were_given_need_not_be_told() -> None:
    prompt = told([], known=(4, 5))
    assert ((4, 5), 2) == (prompt.token_ids, prompt.num_tokens)


def test_what_is_told_counts_more_than_what_was_given() -> None:
    assert (1,) == told([1], known=(4, 5)).token_ids


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (part(3, 1), "a part of the prompt came for token 3"),
        (part(0, 1), "a part of the prompt came for token 0"),
        (part(2, 1, 1, 1, 1), "6 tokens of a prompt of 5 came"),
        (part(2), "2 tokens of a prompt of 5 came"),
        (part(2, 64), "token id 64 is outside the vocabulary of 64"),
    ],
)
def test_a_part_that_does_not_fit_is_an_error(wrong: PromptPart, sentence: str) -> None:
    prompt = told([1, 2], 5)
    with pytest.raises(RemoteProtocolError, match=sentence):
        prompt.read(wrong)


def test_nothing_is_told_behind_the_end() -> None:
    with pytest.raises(RemoteProtocolError, match="a part of the prompt came for token 1"):
        told([1]).read(part(1, 2))


@pytest.mark.parametrize(("ids", "num_tokens"), [([], 0), ([], 4), ([1, 2], 1)])
def test_an_opened_that_tells_no_prompt_is_an_error(ids: list[int], num_tokens: int) -> None:
    with pytest.raises(RemoteProtocolError, match="tokens of a prompt of"):
        told(ids, num_tokens)
