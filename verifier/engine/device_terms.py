"""What an operator has set for single devices: label, pause, weight, longest draft, SLO, drafts.

Kept in one file, from which the running verifier takes it over, so that it outlives a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.errors import ConfigError
from shared.protocol.messages import MAX_ASSIGNED_DRAFTS
from verifier.drafts.kept_draft import Labels, Name

FILE_NAME = "devices.json"
MIN_WEIGHT, MAX_WEIGHT = 0.001, 1000.0
MAX_CAP = 64
MAX_SLO_SECONDS = 600.0
AUTOMATIC = "auto"
"""In place of a draft's name: the one that suits the board best."""
PAUSED = "an operator paused this device: its streams wait"


DraftChoiceRule = Literal["measured", "first"]
"""Which of its drafts a board's streams take: the one that is proven to be faster, or the first."""


class DeviceTerms(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What holds for one device; by default nothing special."""

    label: Annotated[str, Meta(max_length=80)] = ""  # for people, beside the name of its token
    is_paused: bool = False
    weight: Annotated[float, Meta(ge=MIN_WEIGHT, le=MAX_WEIGHT)] = 1.0
    cap: Annotated[int, Meta(ge=0, le=MAX_CAP)] | None = None  # draft tokens of a stream and round
    # A token of a stream in so many seconds is promised; None: as rounds.slo_token_seconds, 0: not.
    slo_token_seconds: Annotated[float, Meta(ge=0.0, le=MAX_SLO_SECONDS)] | None = None
    # Of the registry, for the board to hold; one may be AUTOMATIC.
    drafts: Annotated[tuple[Name, ...], Meta(max_length=MAX_ASSIGNED_DRAFTS)] = ()
    is_private: bool = False  # of what streams teach of drafts, nothing is kept of its streams
    draft_choice: DraftChoiceRule = "measured"
    draft_labels: Labels = ()  # what AUTOMATIC chooses among; none: all


USUAL_TERMS = DeviceTerms()


class AllTerms(msgspec.Struct, frozen=True):
    """Of all devices, by name; those that are not there have the usual terms."""

    by_device: Mapping[str, DeviceTerms] = MappingProxyType({})

    @property
    def paused(self) -> frozenset[str]:
        return frozenset(name for name, terms in self.by_device.items() if terms.is_paused)

    @property
    def private(self) -> frozenset[str]:
        return frozenset(name for name, terms in self.by_device.items() if terms.is_private)

    @property
    def weights(self) -> dict[str, float]:
        """Those other than 1."""
        found = {name: terms.weight for name, terms in self.by_device.items()}
        return {name: weight for name, weight in found.items() if weight != 1.0}

    @property
    def caps(self) -> dict[str, int]:
        """Those that there are."""
        found = {name: terms.cap for name, terms in self.by_device.items()}
        return {name: cap for name, cap in found.items() if cap is not None}

    @property
    def slos(self) -> dict[str, float]:
        """Seconds a token that are promised, where they are set."""
        found = {name: terms.slo_token_seconds for name, terms in self.by_device.items()}
        return {name: seconds for name, seconds in found.items() if seconds is not None}


NO_TERMS = AllTerms()


def read_terms(path: Path) -> AllTerms:
    """What the file says; where there is none, nothing.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        packed = path.read_bytes()
    except FileNotFoundError:
        return NO_TERMS
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from None
    try:
        return AllTerms(msgspec.json.decode(packed, type=dict[str, DeviceTerms]))
    except msgspec.MsgspecError as error:
        fault = str(error).replace("JSON is malformed", "malformed JSON")
        way_out = "`goodspeed-verifier devices` writes it anew where it is missing"
        raise ConfigError((f"{path}: {fault[:1].lower()}{fault[1:]}; {way_out}",)) from None


def pack_terms(terms: AllTerms) -> bytes:
    """The content of a file with these terms."""
    told = {name: one for name, one in sorted(terms.by_device.items()) if one != USUAL_TERMS}
    return msgspec.json.format(msgspec.json.encode(told)) + b"\n"
