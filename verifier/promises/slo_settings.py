"""What streams are promised: seconds for a token, and of how many tokens in a hundred."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec


class SloSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A service level objective of every stream, or of single devices' streams."""

    token_seconds: float = 0.0  # 0: nothing is promised
    percentile: float = 95.0  # of a stream's tokens, that come in time
    by_device: Mapping[str, float] = MappingProxyType({})  # token_seconds of those with their own

    def seconds_of(self, device: str) -> float:
        """What a token of this device's streams may take; 0: nothing is promised."""
        return self.by_device.get(device, self.token_seconds)

    @property
    def promises_any(self) -> bool:
        return self.token_seconds > 0.0 or bool(self.by_device)
