"""How many heads layers have, and how far they see; what every layout of a round needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class HeadShape:
    """How many query heads and key/value heads every layer has."""

    num_heads: int
    num_kv_heads: int

    @classmethod
    def of(cls, config: Any) -> HeadShape:
        """By a model's text configuration; without grouped queries some name only one number."""
        num_kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        return cls(config.num_attention_heads, num_kv_heads)

    @property
    def num_members(self) -> int:
        """Query heads that share a key/value head."""
        return self.num_heads // self.num_kv_heads


def attention_windows(config: Any) -> list[int | None]:
    """The windows that layers of a model may have, by its text configuration; None: no window."""
    return list({None, getattr(config, "sliding_window", None) or None})
