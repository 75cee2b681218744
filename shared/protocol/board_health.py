"""How a board's hardware is, in the words of people. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

_Celsius = Annotated[int, Meta(ge=-100, le=300)]
_Megabytes = Annotated[int, Meta(ge=0, lt=1 << 32)]


class BoardHealth(msgspec.Struct, frozen=True, array_like=True):
    """What sensors tell; None where the board has none. Of "since" is: since it was started."""

    celsius: _Celsius | None = None
    free_megabytes: _Megabytes | None = None
    is_undervolted: bool | None = None
    is_slowed: bool | None = None
    was_undervolted: bool | None = None
    was_slowed: bool | None = None

    @property
    def troubles(self) -> tuple[str, ...]:
        """What is wrong, now or since the board was started; () where nothing is."""
        found = (
            ("undervoltage", self.is_undervolted, self.was_undervolted),
            ("throttled", self.is_slowed, self.was_slowed),
        )
        return tuple(
            word if now else f"{word} before" for word, now, before in found if now or before
        )

    def __str__(self) -> str:
        heat = () if self.celsius is None else (f"{self.celsius} °C",)
        return ", ".join((*heat, *self.troubles))
