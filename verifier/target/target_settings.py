"""What loading a target must be told; `verifier.config` has the keys, their limits and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from verifier.target.precision import Precision, Quantisation


class TemplateSettings(msgspec.Struct, frozen=True):
    """What the operator says about the chat template."""

    source: str = ""  # a file, the name of one that the model brings, or nothing: the model's own
    arguments: Mapping[str, object] = {}  # values of JSON, for all chats


MODELS_OWN_TEMPLATE = TemplateSettings()


class TargetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a target is to run."""

    device: str  # auto, cpu, cuda or cuda:N
    dtype: Precision
    quantisation: Quantisation
    batch_invariant: bool  # a GPU gives every stream the numbers that it would give it alone
    threads: int  # of a CPU; 0: as torch chooses
    context_tokens: int  # of one stream; less if the model sees less
    kv_cache_tokens: int | Literal["auto"]  # auto: by what is free, as `memory_fraction` says
    block_tokens: int
    max_round_tokens: int
    memory_fraction: float  # of what weights and the largest round leave free on a GPU
    template: TemplateSettings = MODELS_OWN_TEMPLATE
