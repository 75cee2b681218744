"""What each device may consume, from the settings: at the start, and when they are read again."""

from __future__ import annotations

from shared.protocol.prompt_parts import longest_prompt_bytes
from verifier.config import LimitsSection
from verifier.server.device_limits import DeviceLimits
from verifier.streams.stream_request import ServiceLimits


def service_limits(limits: LimitsSection, context_tokens: int) -> ServiceLimits:
    """What a stream may ask for, of a target that takes so many tokens."""
    prompt_tokens = limits.max_prompt_tokens
    return ServiceLimits(
        context_tokens=context_tokens,
        max_prompt_tokens=context_tokens if prompt_tokens == "auto" else prompt_tokens,
        max_tokens=limits.max_tokens,
        max_streams_per_device=limits.max_streams_per_device,
        grace_seconds=limits.grace_seconds,
    )


def device_limits(limits: LimitsSection, stream_tokens: int) -> DeviceLimits:
    """What the server allows each device, whose streams may have so many tokens each."""
    context_tokens = limits.max_context_tokens_per_device
    return DeviceLimits(
        messages_per_second=limits.max_messages_per_second,
        bytes_per_second=limits.max_bytes_per_second,
        context_tokens=None if context_tokens == "auto" else context_tokens,
        max_streams=limits.max_streams_per_device,
        prompt_bytes=longest_prompt_bytes(stream_tokens),
    )
