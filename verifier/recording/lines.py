"""The lines of a recording, JSON each, in the order in which rounds were settled.

Times are seconds since the recording began. Nothing of any text is kept: only who drafted how much
when, what was accepted of it, and how long rounds took. Pure.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from shared.protocol.messages import AcceptanceMode, FinishReason

VERSION = 1

Seconds = Annotated[float, Meta(ge=0)]
Tokens = Annotated[int, Meta(ge=0)]
SettingValue = bool | int | float | str


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """One line."""


class Begin(_Line, frozen=True, tag="begin"):
    """The first line."""

    version: int
    target_model: str
    unix_seconds: float  # when that was
    rounds: dict[str, SettingValue]  # of [rounds], what is not as it is by itself


class StreamBegin(_Line, frozen=True, tag="stream"):
    """A stream was opened at that time; its first part is in the round that is told next."""

    at_seconds: Seconds
    stream: int
    device: str
    mode: AcceptanceMode
    prompt_tokens: Tokens


class LatePart(msgspec.Struct, frozen=True, array_like=True):
    """Draft tokens that met what was committed before they came, in turn."""

    back: Tokens  # from the round's first position to that of the first of them
    num_right: Tokens
    confidences: bytes  # of each, and of a wrong one behind those; 0: it was not told


class StreamPart(msgspec.Struct, frozen=True, array_like=True):
    """What a round did for one stream."""

    stream: int
    num_tested: Tokens  # draft tokens of its board
    num_accepted: Tokens
    num_own: Tokens  # the target's own, and what a grammar forced
    num_right: Tokens = 0  # draft tokens that met what was committed, tested or not
    confidences: bytes = b""  # of each, and of a wrong one behind those; 0: it was not told
    late: tuple[LatePart, ...] = ()  # that came since the round before


class RoundEnd(_Line, frozen=True, tag="round"):
    """A round was settled."""

    at_seconds: Seconds
    total_seconds: Seconds  # from the start of planning until it is settled
    target_seconds: Seconds  # forward pass and sampling
    num_tokens: Tokens  # that went through the target
    chunk_tokens: Tokens  # of prompts among them
    context_tokens: Tokens
    parts: tuple[StreamPart, ...]


class StreamEnd(_Line, frozen=True, tag="end"):
    """A stream ended with the round of that time, or outside of any."""

    at_seconds: Seconds
    stream: int
    reason: FinishReason


class BoardSpeed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of a board by then."""

    round_trip_seconds: Seconds | None
    draft_token_seconds: Seconds | None


class Boards(_Line, frozen=True, tag="boards"):
    """All boards that had a part by then, by device."""

    at_seconds: Seconds
    boards: dict[str, BoardSpeed]


Line = Begin | StreamBegin | RoundEnd | StreamEnd | Boards
