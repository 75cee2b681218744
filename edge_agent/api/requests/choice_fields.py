"""How many answers a client wants, to which prompts.

This module must never put the text of a prompt into an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edge_agent.api.json_fields import kind_of, read_field
from edge_agent.api.requests.message_fields import check_prompt_bytes
from edge_agent.generation.generation import GenerationRequest
from shared.errors import RequestRefused
from shared.protocol.messages import MAX_63_BITS
from shared.protocol.token_ids import MAX_VOCAB_SIZE

MAX_CHOICES = 64  # of one request, over all its prompts
_NAMES = ("n", "n_cmpl")  # OpenAI's, and llama-server's
_NumChoices = Annotated[int, Meta(ge=1, le=MAX_CHOICES)]
_TokenIds = tuple[Annotated[int, Meta(ge=0, lt=MAX_VOCAB_SIZE)], ...]


class Prompt(msgspec.Struct, frozen=True):
    """Of a completion: a text, or its tokens."""

    text: str = ""
    token_ids: tuple[int, ...] = ()


class NumChoices(msgspec.Struct, frozen=True):
    """How many answers to a prompt are written, and how many of them are told, the likeliest."""

    written: int = 1
    told: int = 1

    @property
    def has_best(self) -> bool:
        """Whether some are not told."""
        return self.told < self.written


def read_num_choices(fields: Mapping[str, Any], *, may_choose: bool = False) -> NumChoices:
    """How many answers to each prompt; `may_choose`: `best_of` of them are written.

    Raises:
        RequestRefused: a field is no number, or too large; or the best of a streamed answer is
            asked for, which is known at its end.
    """
    given: list[int] = [
        read_field(fields, name, _NumChoices) for name in _NAMES if fields.get(name) is not None
    ]
    num_told = given[0] if given else 1
    if not may_choose or fields.get("best_of") in (None, 0):
        return NumChoices(num_told, num_told)
    num_written: int = read_field(fields, "best_of", _NumChoices)
    if num_written < num_told:
        sentence = f"best_of = {num_written}: must be at least n = {num_told}"
        raise RequestRefused(sentence, "best_of")
    if num_written > num_told and fields.get("stream"):
        sentence = f"best_of = {num_written}: the best is known at the end; ask without stream"
        raise RequestRefused(sentence, "best_of")
    return NumChoices(num_written, num_told)


def read_prompts(fields: Mapping[str, Any]) -> tuple[Prompt, ...]:
    """A text or a list of token ids, or a list of such.

    Raises:
        RequestRefused: it is none, too many or too long.
    """
    prompt = fields.get("prompt")
    several = prompt if isinstance(prompt, list) and not _is_ids(prompt) else [prompt]
    if not several:
        raise RequestRefused("prompt must be a text or token ids, not an empty list", "prompt")
    if len(several) > MAX_CHOICES:
        raise RequestRefused(f"{len(several)} prompts exceed {MAX_CHOICES}", "prompt")
    is_alone = len(several) == 1
    return tuple(
        _prompt(one, "prompt" if is_alone else f"prompt[{i}]") for i, one in enumerate(several)
    )


def other_choices(
    first: GenerationRequest, prompts: Sequence[Prompt], num_choices: NumChoices
) -> tuple[GenerationRequest, ...]:
    """All generations but the first: as many of each prompt; each has a seed of its own.

    Raises:
        RequestRefused: they are too many.
    """
    num_written = num_choices.written
    num_all = num_written * len(prompts)
    if num_all > MAX_CHOICES:
        field = "best_of" if num_choices.has_best else "n"
        sentence = f"{field} = {num_written}: {num_all} answers exceed {MAX_CHOICES}"
        raise RequestRefused(sentence, field)
    others = []
    for i in range(1, num_all):
        prompt = prompts[i // num_written]
        seed = None if first.seed is None else (first.seed + i) & MAX_63_BITS
        of_prompt = {"text": prompt.text, "prompt_ids": prompt.token_ids, "seed": seed}
        others.append(msgspec.structs.replace(first, **of_prompt))
    return tuple(others)


def _is_ids(prompt: list[Any]) -> bool:
    return bool(prompt) and not isinstance(prompt[0], str | list)


def _prompt(prompt: object, name: str) -> Prompt:
    if isinstance(prompt, str):
        check_prompt_bytes(name, len(prompt.encode()))
        return Prompt(prompt)
    if not isinstance(prompt, list) or not prompt:
        sentence = f"{name} must be a text or token ids, not {kind_of(prompt)}"
        raise RequestRefused(sentence, name)
    return Prompt(token_ids=read_field({name: prompt}, name, _TokenIds))
