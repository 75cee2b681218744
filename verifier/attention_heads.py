"""How many heads a layer has; what every layout of a round needs to know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HeadShape:
    """How many query heads and key/value heads every layer has."""

    num_heads: int
    num_kv_heads: int

    @property
    def num_members(self) -> int:
        """Query heads that share a key/value head."""
        return self.num_heads // self.num_kv_heads
