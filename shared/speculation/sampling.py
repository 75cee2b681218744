"""What a request asks of sampling: temperature, top-k, top-p.

What that makes of logits is in `shared.speculation.probabilities`. This module must never import
numpy: a board without a model takes requests without it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

import msgspec

# Below it the most likely token is taken without a draw: noise spreads over 26 at most, so it could
# decide between logits that are 0.0003 apart, less than a step of bfloat16 from 0.125 on. Float32
# has no inverse of far smaller ones.
LOWEST_TEMPERATURE = 1e-5


class SamplingParameters(msgspec.Struct, frozen=True, array_like=True):
    """How a request turns logits into probabilities.

    A temperature below `LOWEST_TEMPERATURE` is greedy.
    """

    temperature: Annotated[float, msgspec.Meta(ge=0, le=100)] = 1.0
    top_k: Annotated[int, msgspec.Meta(ge=0, le=1 << 24)] = 0  # 0: off
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0

    @property
    def is_greedy(self) -> bool:
        return self.temperature < LOWEST_TEMPERATURE


GREEDY = SamplingParameters(temperature=0.0)
PLAIN_SAMPLING = SamplingParameters()  # as the model predicts

SamplingField = Literal["temperature", "top_k", "top_p"]


def filled_in(
    sampling: SamplingParameters, left_open: Collection[SamplingField], defaults: SamplingParameters
) -> SamplingParameters:
    """What a request asks for, with `defaults` wherever it is silent."""
    values = {name: getattr(defaults, name) for name in left_open}
    return msgspec.structs.replace(sampling, **values)
