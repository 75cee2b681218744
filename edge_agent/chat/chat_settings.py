"""What `/set` can change: the sampling of the questions that follow, by the API's names. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

import msgspec
from msgspec import Meta

from shared.errors import RequestRefused
from shared.protocol.messages import MAX_63_BITS, MAX_DRAFT_TOKENS, MAX_POSITION, AcceptanceMode
from shared.speculation.logit_processors import LogitProcessors

# The word that leaves a setting to the target, the verifier or the policy.
DEFAULT = "default"
EXTENSION = "goodspeed"


_PROCESSORS = get_type_hints(LogitProcessors, include_extras=True)


class Setting(NamedTuple):
    """One field of a chat request."""

    name: str
    kind: Any
    meaning: str
    is_extension: bool = False  # a field of `goodspeed`


SETTINGS = (
    Setting("temperature", Annotated[float, Meta(ge=0, le=100)], "0 is greedy"),
    Setting("top_p", Annotated[float, Meta(ge=0, le=1)], "the likeliest tokens of this mass alone"),
    Setting("top_k", Annotated[int, Meta(ge=0)], "so many of the likeliest tokens; 0: all"),
    Setting("min_p", _PROCESSORS["min_p"], "tokens of so much of the likeliest one's probability"),
    Setting("frequency_penalty", _PROCESSORS["frequency_penalty"], "for each time in the answer"),
    Setting("presence_penalty", _PROCESSORS["presence_penalty"], "for what is in the answer"),
    Setting("repetition_penalty", _PROCESSORS["repetition_penalty"], "for all words; 1: none"),
    Setting("seed", Annotated[int, Meta(ge=0, le=MAX_63_BITS)], "makes answers repeatable"),
    Setting("max_tokens", Annotated[int, Meta(ge=1, le=MAX_POSITION)], "cuts each answer"),
    Setting("stop", Annotated[str, Meta(min_length=1)], r"ends an answer before it; \n is a line"),
    Setting(
        "reasoning_effort",
        Literal["none", "minimal", "low", "medium", "high"],
        "how long to think, where the template knows",
    ),
    Setting("acceptance_mode", AcceptanceMode, "how draft tokens are accepted", is_extension=True),
    Setting(
        "draft_length",
        Annotated[int, Meta(ge=0, le=MAX_DRAFT_TOKENS)],
        "draft tokens per round, 0 for none",
        is_extension=True,
    ),
)
_WORDS = {"float": "a number", "int": "a whole number", "str": "text"}
_BY_NAME = {setting.name: setting for setting in SETTINGS}


def changed(settings: Mapping[str, object], name: str, text: str) -> dict[str, object]:
    """The settings with one of them as it was typed, or left open by the word `default`.

    Raises:
        RequestRefused: there is no such setting, or the text is no value of it.
    """
    setting = _BY_NAME.get(name)
    if setting is None:
        raise RequestRefused(f"there is no setting {name}: it is one of {', '.join(_BY_NAME)}")
    value = None if text == DEFAULT else _value(setting, text)
    return _with(settings, setting, value)


def known_settings(settings: Mapping[str, Any]) -> dict[str, object]:
    """The settings of a file, as far as they are settings.

    Raises:
        RequestRefused: one of them is unknown, or has a value that is none.
    """
    known: dict[str, object] = {}
    extension = settings.get(EXTENSION, {})
    fields = {name: value for name, value in settings.items() if name != EXTENSION}
    if not isinstance(extension, dict):
        raise RequestRefused(f"setting {EXTENSION} must be an object")
    for name, value in {**fields, **extension}.items():
        setting = _BY_NAME.get(name)
        if setting is None:
            raise RequestRefused(f"there is no setting {name}")
        known = _with(known, setting, _converted(setting, value, strict=True))
    return known


def listing(settings: Mapping[str, Any]) -> str:
    """A line for each: name, value, meaning."""
    values = {**settings, **settings.get(EXTENSION, {})}
    lines = [
        f"{setting.name:<17}{_shown(values.get(setting.name)):<12}{setting.meaning}"
        for setting in SETTINGS
    ]
    return "\n".join([*lines, f"/set NAME VALUE changes one, /set NAME {DEFAULT} leaves it open"])


def _value(setting: Setting, text: str) -> object:
    if setting.name == "stop":
        text = text.replace("\\n", "\n").replace("\\t", "\t")
    return _converted(setting, text, strict=False)


def _converted(setting: Setting, value: object, *, strict: bool) -> object:
    try:
        converted: object = msgspec.convert(value, setting.kind, strict=strict)
    except msgspec.ValidationError as error:
        reason = _in_words(str(error))
        if not isinstance(value, str) or len(value) < 40:
            reason = f"{value}: {reason[0].lower()}{reason[1:]}"
        raise RequestRefused(f"{setting.name} = {reason}") from None
    return converted


def _with(
    settings: Mapping[str, object], setting: Setting, value: object | None
) -> dict[str, object]:
    fields = dict(settings)
    extension = fields.pop(EXTENSION, {})
    assert isinstance(extension, dict), "the settings are ours"
    changing = dict(extension) if setting.is_extension else fields
    changing.pop(setting.name, None)
    if value is not None:
        changing[setting.name] = value
    rest = changing if setting.is_extension else extension
    return {**fields, EXTENSION: rest} if rest else fields


def _in_words(reason: str) -> str:
    """What msgspec says, without the types of Python."""
    return re.sub(r"`(\w+)`", lambda word: _WORDS.get(word[1], word[1]), reason)


def _shown(value: object) -> str:
    return DEFAULT if value is None else repr(value) if isinstance(value, str) else str(value)
