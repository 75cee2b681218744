"""How much of a draft model's row is sent; apart, for settings are read before numpy is."""

from __future__ import annotations

MAX_ROW_ENTRIES = 64
