"""What only goodspeed understands, in the field of its name: the same in every dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from edge_agent.api.json_fields import read_field, shown
from shared.errors import RequestRefused
from shared.protocol.messages import AcceptanceMode, DraftLength


class Extension(msgspec.Struct, frozen=True):
    """How to speculate; None: the verifier chooses."""

    acceptance_mode: AcceptanceMode | None = None
    draft_length: int | None = None


_KINDS: Mapping[str, Any] = {"acceptance_mode": AcceptanceMode, "draft_length": DraftLength}


def read_extension(fields: Mapping[str, Any]) -> Extension:
    """The field `goodspeed`.

    Raises:
        RequestRefused: it has another field than these two: a mistyped one would silently do
            nothing; or a value that is none.
    """
    extension: dict[str, Any] = read_field(fields, "goodspeed", dict[str, Any], {})
    for name in extension:
        if name not in _KINDS:
            sentence = f"unknown field {shown(name)} in goodspeed: it has {', '.join(_KINDS)}"
            raise RequestRefused(sentence, "goodspeed")
    values = {
        name: read_field(extension, name, kind, parent="goodspeed.")
        for name, kind in _KINDS.items()
    }
    return Extension(**values)
