"""What a request does to the target's logits before they are sampled.

One rule for all three programs, in float32, so that they agree to the last bit. The order is
vLLM's: biases and tokens that are ruled out; repetition, frequency and presence penalties;
temperature; min_p; top-k and top-p. A repetition penalty looks at prompt and output (Keskar et al.
2019, and transformers), the two others at the output alone (OpenAI's API).

Tokens are ruled out by adding minus infinity, so that a NaN or an infinity of the model's is never
hidden: such a row stays no distribution.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.speculation.sampling import SamplingParameters

MAX_BIASED_TOKENS = 1024
MAX_STOP_TOKENS = 128
MAX_LOGPROBS = 20  # of other tokens, beside the one that was chosen

_AdditivePenalty = Annotated[float, Meta(ge=-2, le=2)]
_TokenId = Annotated[int, Meta(ge=0, lt=1 << 24)]
_Bias = Annotated[float, Meta(ge=-100, le=100)]


class LogitProcessors(msgspec.Struct, frozen=True, array_like=True):
    """What a request asks of the logits beside temperature, top-k and top-p; by default nothing."""

    frequency_penalty: _AdditivePenalty = 0.0  # subtracted for each time in the output
    presence_penalty: _AdditivePenalty = 0.0  # subtracted once from what is in the output
    # Positive logits of what is in prompt or output are divided by it, others multiplied.
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100)] = 1.0
    logit_bias: Annotated[
        tuple[tuple[_TokenId, _Bias], ...], Meta(max_length=MAX_BIASED_TOKENS)
    ] = ()
    min_p: Annotated[float, Meta(ge=0, le=1)] = (
        0.0  # least share of the likeliest one's probability
    )
    min_tokens: Annotated[int, Meta(ge=0, le=1 << 24)] = 0  # until then nothing may end the output
    ignore_eos: bool = False  # the model's own ends are ruled out
    stop_token_ids: Annotated[tuple[_TokenId, ...], Meta(max_length=MAX_STOP_TOKENS)] = ()

    @property
    def has_penalties(self) -> bool:
        """Whether what was written before matters."""
        additive = self.frequency_penalty, self.presence_penalty
        return any(additive) or self.repetition_penalty != 1

    @property
    def forbids_end(self) -> bool:
        """Whether the output may not end where the model would end it."""
        return bool(self.min_tokens) or self.ignore_eos

    @property
    def changes_logits(self) -> bool:
        """Whether rows of the target are any other than it made them."""
        return bool(
            self.has_penalties
            or self.logit_bias
            or self.min_p
            or self.min_tokens
            or self.ignore_eos
        )


NO_PROCESSORS = LogitProcessors()


def additions(
    processors: LogitProcessors, end_ids: Collection[int], *, may_end: bool
) -> dict[int, float]:
    """What is added to the logit of which token, before a token that may end the output or not.

    `end_ids` are the model's own ends.
    """
    added = dict(processors.logit_bias)
    ruled_out = set(end_ids) if processors.ignore_eos or not may_end else set()
    if not may_end:
        ruled_out.update(processors.stop_token_ids)
    return added | dict.fromkeys(sorted(ruled_out), -math.inf)


def min_p_depth(processors: LogitProcessors, sampling: SamplingParameters) -> float:
    """How far below the largest logit a token may lie; infinite where min_p is off."""
    if not processors.min_p or sampling.is_greedy:
        return math.inf
    return -sampling.temperature * math.log(processors.min_p)
