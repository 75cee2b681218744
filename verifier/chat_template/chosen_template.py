"""Which template writes the chats: the operator's file, or one that the model brings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import TemplateError

from shared.errors import ModelError
from verifier.chat_template.sandbox import reason_of, template_environment
from verifier.target.target_settings import TemplateSettings

_OWN = "default"  # of several that a model brings


def chosen_template(
    settings: TemplateSettings, of_model: str | Mapping[str, str] | None
) -> str | None:
    """The template's text; None: neither settings nor model have one.

    Raises:
        ModelError: the settings name a template that is not there or cannot be read.
    """
    named = of_model if isinstance(of_model, Mapping) else {_OWN: of_model} if of_model else {}
    if not settings.source:
        return named.get(_OWN, next(iter(named.values()), None))
    if settings.source in named:
        return named[settings.source]
    text = _read(Path(settings.source).expanduser(), named)
    try:
        template_environment().parse(text)
    except TemplateError as error:
        raise ModelError(f"target.chat_template {settings.source}: {reason_of(error)}") from error
    return text


def _read(path: Path, named: Mapping[str, str]) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = f"the model brings {', '.join(named)}" if named else "the model brings none"
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ModelError(
            f"target.chat_template {path}: {reason}; it is a file or a name, and {known}"
        ) from error
