"""Many verifiers and the devices that they serve: what a run of them depends on.

Pure values. This module must never draw anything.
"""

from __future__ import annotations

from typing import Literal

import msgspec

RoutingName = Literal["pinned", "random", "round-robin", "jsq", "jsq-2", "least-price", "placement"]
BatchingName = Literal["fifo", "length-aware"]


class TargetKind(msgspec.Struct, frozen=True):
    """How long rounds of one verifier take: a line, and what reading prompts adds."""

    name: str
    fixed_seconds: float
    token_seconds: float
    prompt_token_seconds: float

    def slower(self, name: str, times: float) -> TargetKind:
        """A GPU that takes so many times as long for everything: scaled, not measured."""
        return TargetKind(
            name,
            times * self.fixed_seconds,
            times * self.token_seconds,
            times * self.prompt_token_seconds,
        )


class ManySetting(msgspec.Struct, frozen=True, kw_only=True):
    """A world; every pair of numbers is a range that devices or requests are spread over."""

    targets: tuple[TargetKind, ...]
    num_devices: int
    draft_tokens_per_second: tuple[float, ...] = (25.0, 40.0, 60.0)
    """Dealt out, each as often as every other."""
    acceptance: tuple[float, float] = (0.6, 0.9)
    round_trip_seconds: float = 0.010
    jitter: float = 0.1
    """Deviation of the logarithm of a message's time."""
    loss: float = 0.0
    """Chance that a message must be sent again, `resend_seconds` later."""
    resend_seconds: float = 0.2
    bytes_per_second: float = 0.0
    """Of a device's link in each direction; 0: no limit."""
    prompt_tokens: tuple[int, int] = (60, 160)
    output_tokens: tuple[int, int] = (80, 240)
    think_seconds: tuple[float, float] = (0.5, 1.5)
    """From an answer to the device's next request; not where requests arrive by themselves."""
    requests_per_second: float = 0.0
    """Of all devices together, in a Poisson process; 0: each asks again when it has thought."""
    seconds: float = 30.0
    warm_up_seconds: float = 5.0
    """Before this nothing is counted."""
    bin_seconds: float = 1.0
    """Of one point of the figures over time; exact where no round takes longer."""
    routing: RoutingName = "jsq"
    batching: BatchingName = "fifo"
    max_batch: int = 256
    """Streams in one round."""
    is_padded: bool = False
    """Every stream of a round costs as much as the one with the longest draft."""
    prompt_tokens_of_round: int = 512
    """That a round reads at most, the oldest request's first."""
