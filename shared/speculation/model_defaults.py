"""How a model wants to be sampled, by its own settings, and a request where it is silent."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import msgspec

from shared.speculation.logit_processors import LogitProcessors
from shared.speculation.sampling import PLAIN_SAMPLING, SamplingParameters

ProcessorField = Literal["min_p", "repetition_penalty"]
"""Of `LogitProcessors`: what models ask for themselves (Qwen2.5 a repetition_penalty of 1.05)."""


class ModelDefaults(msgspec.Struct, frozen=True):
    """What holds where a request is silent; by default the model's plain distribution."""

    sampling: SamplingParameters = PLAIN_SAMPLING
    processors: LogitProcessors = LogitProcessors()  # of these the `ProcessorField`s


PLAIN_DEFAULTS = ModelDefaults()


def completed(
    processors: LogitProcessors, left_open: Collection[ProcessorField], defaults: LogitProcessors
) -> LogitProcessors:
    """What a request asks for, with `defaults` wherever it is silent."""
    values = {name: getattr(defaults, name) for name in left_open}
    return msgspec.structs.replace(processors, **values) if values else processors
