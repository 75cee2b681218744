"""What the registry knows of each draft, and the file that says it.

Pure but for reading that file. This module must never touch a draft's own bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.errors import ConfigError
from shared.protocol.handed_drafts.draft_offers import (
    LABEL,
    MAX_LABELS,
    MAX_LICENCE_LENGTH,
    OFFER_NAME,
)

FILE_NAME = "drafts.json"

Name = Annotated[str, Meta(pattern=rf"^{OFFER_NAME}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Labels = Annotated[
    tuple[Annotated[str, Meta(pattern=rf"^{LABEL}\Z")], ...], Meta(max_length=MAX_LABELS)
]
Origin = Literal["added", "candidate"]
"""By an operator's hand, or made by the verifier from its own traffic."""


class KeptDraft(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One draft of the registry."""

    sha256: Sha256
    num_bytes: Annotated[int, Meta(ge=1)]
    vocabulary: str  # a short hash of what its ids mean: equal for drafts of one target
    architecture: str = ""
    num_weights: Annotated[int, Meta(ge=0)] = 0
    licence: Annotated[str, Meta(max_length=MAX_LICENCE_LENGTH)] = ""
    labels: Labels = ()  # domains or languages, in the operator's words
    acceptance: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None  # as it was judged
    tokens_per_second: Annotated[float, Meta(gt=0.0)] | None = None  # where it was judged
    origin: Origin = "added"
    made_from: str = ""  # of a candidate: the name of the draft that it began from


class Catalogue(msgspec.Struct, frozen=True):
    """All drafts of the registry, by name."""

    by_name: Mapping[str, KeptDraft] = MappingProxyType({})

    def with_draft(self, name: str, draft: KeptDraft) -> Catalogue:
        """With this draft, in place of what had its name."""
        return Catalogue({**self.by_name, name: draft})

    def without(self, name: str) -> Catalogue:
        """Without the draft of this name."""
        return Catalogue({key: kept for key, kept in self.by_name.items() if key != name})


def read_catalogue(path: Path) -> Catalogue:
    """What the file says; where there is none, nothing.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        packed = path.read_bytes()
    except FileNotFoundError:
        return Catalogue()
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from None
    try:
        return Catalogue(msgspec.json.decode(packed, type=dict[Name, KeptDraft]))
    except msgspec.MsgspecError as error:
        way_out = "without it the registry is empty; `goodspeed-verifier drafts add` fills it anew"
        raise ConfigError((f"{path}: {error}; {way_out}",)) from None


def pack_catalogue(catalogue: Catalogue) -> bytes:
    """The content of a file that says this."""
    return msgspec.json.format(msgspec.json.encode(dict(sorted(catalogue.by_name.items())))) + b"\n"
