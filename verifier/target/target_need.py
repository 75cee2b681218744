"""What a target takes of its device, before it is loaded. Numbers only."""

from __future__ import annotations

import msgspec


class TargetNeed(msgspec.Struct, frozen=True, kw_only=True):
    """Memory in bytes; `free_bytes` is the GPU's, or main memory's where there is none."""

    model_name: str
    hardware: str
    dtype: str
    is_on_gpu: bool
    weight_bytes: int
    cached_token_bytes: int
    round_bytes: int  # at the peak of the largest round
    cache_tokens: int | None  # None: by what the GPU has free
    free_bytes: int | None  # None: the system does not tell
