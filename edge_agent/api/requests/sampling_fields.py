"""How to sample and when to stop, in the words of all dialects, which say "off" in many ways.

This module must never look at a prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
from msgspec import Meta

from edge_agent.api.json_fields import read_field
from shared.errors import RequestRefused
from shared.protocol.messages import MAX_POSITION, MAX_STOP_BYTES, MAX_STOP_STRINGS, Seed
from shared.speculation.sampling import SamplingField, SamplingParameters

_KINDS = get_type_hints(SamplingParameters, include_extras=True)
_NAMES: tuple[SamplingField, ...] = get_args(SamplingField)
_MaxTokens = Annotated[int, Meta(ge=1, le=MAX_POSITION)]
_StopStrings = Annotated[tuple[str, ...], Meta(max_length=MAX_STOP_STRINGS)]


class SamplingChoice(msgspec.Struct, frozen=True):
    """How to sample, and what of it the client leaves to the target's own defaults."""

    sampling: SamplingParameters
    left_open: tuple[SamplingField, ...]


def read_sampling(fields: Mapping[str, Any], *, parent: str = "") -> SamplingChoice:
    """Temperature, top_k and top_p; errors show `parent` before the name.

    A top_k of -1 is off, as in vLLM. A top_p of 0 leaves the likeliest token alone, as in OpenAI's
    API and llama.cpp: the fewest tokens whose mass reaches 0, and one at least.

    Raises:
        RequestRefused: a value is of another type or out of range.
    """
    given = dict(fields)
    if _is_number(fields.get("top_k"), -1):
        given["top_k"] = 0
    if _is_number(fields.get("top_p"), 0):
        given |= {"top_k": 1, "top_p": 1.0}
    left_open = tuple(name for name in _NAMES if given.get(name) is None)
    values = {
        name: read_field(given, name, kind, parent=parent)
        for name, kind in _KINDS.items()
        if given.get(name) is not None
    }
    return SamplingChoice(SamplingParameters(**values), left_open)


def read_seed(fields: Mapping[str, Any], *, parent: str = "") -> int | None:
    """The seed; None, and -1 as in llama-server: any.

    Raises:
        RequestRefused: it is no integer of 63 bits.
    """
    if _is_number(fields.get("seed"), -1):
        return None
    seed: int | None = read_field(fields, "seed", Seed, parent=parent)
    return seed


def read_max_tokens(
    fields: Mapping[str, Any],
    *names: str,
    parent: str = "",
    unlimited: tuple[int, ...] = (-1,),
    may_be_none: bool = False,
) -> int | None:
    """The first of the names that says something; None, and what is `unlimited`: no limit.

    `may_be_none`: 0 is a limit, too.

    Raises:
        RequestRefused: one of them is of another type or out of range.
    """
    limits: list[int | None] = []
    for name in names:
        value = fields.get(name)
        if any(_is_number(value, number) for number in unlimited):
            limits.append(None)
        elif may_be_none and _is_number(value, 0):
            limits.append(0)
        elif value is not None:
            limits.append(read_field(fields, name, _MaxTokens, parent=parent))
    return limits[0] if limits else None


def read_stop(
    fields: Mapping[str, Any], name: str = "stop", *, parent: str = ""
) -> tuple[str, ...]:
    """The strings that end the answer: a list or one alone; empty ones end nothing.

    Raises:
        RequestRefused: they are none, too many or too long.
    """
    stop = fields.get(name)
    listed = {name: [stop] if isinstance(stop, str) else stop}
    strings: tuple[str, ...] = read_field(listed, name, _StopStrings, (), parent=parent)
    for string in strings:
        num_bytes = len(string.encode())
        if num_bytes > MAX_STOP_BYTES:
            sentence = f"{parent}{name} string of {num_bytes} bytes: at most {MAX_STOP_BYTES}"
            raise RequestRefused(sentence, parent + name)
    return tuple(filter(None, strings))


def _is_number(value: object, number: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == number
