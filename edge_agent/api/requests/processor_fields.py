"""Penalties, biases, min_p and what may end an answer, in the words of all dialects.

This module must never look at a prompt, nor know how many tokens a target has: the verifier does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

import msgspec

from edge_agent.api.json_fields import kind_of, read_field, shown
from shared.errors import RequestRefused
from shared.speculation.logit_processors import MAX_BIASED_TOKENS, LogitProcessors
from shared.speculation.model_defaults import ProcessorField

_KINDS = get_type_hints(LogitProcessors, include_extras=True)
# Of vLLM, SGLang and transformers; then of llama-server, Ollama and LM Studio.
_REPETITION_NAMES = ("repetition_penalty", "repeat_penalty")
_LAST_N_NAMES = ("repeat_last_n", "penalty_last_n")
_PENALTIES = ("frequency_penalty", "presence_penalty", "repetition_penalty")
# As named in `LogitProcessors`, and read as they are.
_PLAIN = (
    *("frequency_penalty", "presence_penalty", "min_p"),
    *("min_tokens", "ignore_eos", "stop_token_ids"),
)

PROCESSOR_FIELDS = frozenset({*_PLAIN, *_REPETITION_NAMES, *_LAST_N_NAMES, "logit_bias"})
"""Fields that `read_processors` honours."""


def read_processors(
    fields: Mapping[str, Any], max_tokens: int | None = None, *, parent: str = ""
) -> LogitProcessors:
    """What a request asks of the logits; errors show `parent` before the name.

    A repeat_penalty of 0 is off, as in llama-server; a repeat_last_n of 0 switches penalties off.

    Raises:
        RequestRefused: a value is of another type or out of range, penalties are to look at the
            last tokens alone, or `min_tokens` exceed `max_tokens`.
    """
    values: dict[str, Any] = {
        name: read_field(fields, name, _KINDS[name], parent=parent)
        for name in _PLAIN
        if fields.get(name) is not None
    }
    values["repetition_penalty"] = _repetition(fields, parent)
    values["logit_bias"] = _biases(fields.get("logit_bias"), parent)
    processors = LogitProcessors(**values)
    if max_tokens is not None and processors.min_tokens > max_tokens:
        sentence = f"{parent}min_tokens = {processors.min_tokens} exceed {max_tokens}, the most"
        raise RequestRefused(sentence, f"{parent}min_tokens")
    if processors.has_penalties and _are_switched_off(fields, parent):
        values |= {"frequency_penalty": 0.0, "presence_penalty": 0.0, "repetition_penalty": 1.0}
        return LogitProcessors(**values)
    return processors


def processors_left_open(fields: Mapping[str, Any]) -> tuple[ProcessorField, ...]:
    """What the client leaves to the target's defaults, of fields that `read_processors` took."""
    is_off = any(fields.get(name) == 0 for name in _LAST_N_NAMES)
    says_penalty = is_off or any(fields.get(name) is not None for name in _REPETITION_NAMES)
    given: dict[ProcessorField, bool] = {
        "min_p": fields.get("min_p") is not None,
        "repetition_penalty": says_penalty,
    }
    return tuple(name for name, is_given in given.items() if not is_given)


def _repetition(fields: Mapping[str, Any], parent: str) -> float:
    """The first of its names that says something; both must say the same."""
    given: dict[str, float] = {}
    for name in _REPETITION_NAMES:
        value = fields.get(name)
        is_off = name == "repeat_penalty" and value == 0 and not isinstance(value, bool)
        if is_off:
            given[name] = 1.0
        elif value is not None:
            given[name] = read_field(fields, name, _KINDS["repetition_penalty"], parent=parent)
    if len(set(given.values())) > 1:
        name = parent + _REPETITION_NAMES[1]
        sentence = f"{name} and {parent}{_REPETITION_NAMES[0]} are one: send one of them"
        raise RequestRefused(sentence, name)
    return next(iter(given.values()), 1.0)


def _are_switched_off(fields: Mapping[str, Any], parent: str) -> bool:
    """Whether penalties look at no token; those that look at some of them are refused."""
    for name in _LAST_N_NAMES:
        last: int | None = read_field(fields, name, int, parent=parent)
        if last == 0:
            return True
        if last not in (None, -1):
            sentence = f"{parent}{name} = {shown(last)}: penalties look at all tokens; send -1"
            raise RequestRefused(sentence, parent + name)
    return False


def _biases(asked: object, parent: str) -> tuple[tuple[int, float], ...]:
    """OpenAI's object of ids, or llama-server's list of pairs, where false is the least bias."""
    name = f"{parent}logit_bias"
    if asked is None:
        return ()
    if not isinstance(asked, dict | list):
        sentence = f"{name} must be an object of token ids, not {kind_of(asked)}"
        raise RequestRefused(sentence, name)
    if len(asked) > MAX_BIASED_TOKENS:
        raise RequestRefused(f"{name} of {len(asked)} tokens: at most {MAX_BIASED_TOKENS}", name)
    pairs = _of_object(asked, name) if isinstance(asked, dict) else _of_list(asked, name)
    biases: dict[int, float] = {}
    for token_id, bias, shown_as in pairs:
        try:
            ((read_id, read_bias),) = msgspec.convert([[token_id, bias]], _KINDS["logit_bias"])
        except msgspec.ValidationError as error:
            sentence = f"{shown_as} = {shown(bias)}: needs a token id, and a number of -100 to 100"
            raise RequestRefused(sentence, shown_as) from error
        if read_id in biases:
            raise RequestRefused(f"{name} names token {read_id} twice", name)
        biases[read_id] = read_bias
    return tuple(biases.items())


def _of_object(asked: Mapping[str, object], name: str) -> Iterator[tuple[int, object, str]]:
    for key, bias in asked.items():
        if not (key.isascii() and key.isdigit() and len(key) <= 9):
            raise RequestRefused(f"{name} has the key {shown(key)}, which is no token id", name)
        yield int(key), bias, f"{name}.{key}"


def _of_list(asked: list[object], name: str) -> Iterator[tuple[object, object, str]]:
    for i, pair in enumerate(asked):
        shown_as = f"{name}[{i}]"
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[0], int):
            sentence = f"{shown_as} must be a pair of token id and bias, not {kind_of(pair)}"
            raise RequestRefused(sentence, shown_as)
        token_id, bias = pair
        yield token_id, -100.0 if bias is False else bias, shown_as
