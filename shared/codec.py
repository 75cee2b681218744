"""Messages to bytes and back, with every limit set; anything wrong is one clear protocol error.

This module must never let another exception than RemoteProtocolError out of `decode_*`.
"""

from __future__ import annotations

from typing import Any, cast

import msgpack
import msgspec

from shared.errors import LocalProtocolError, RemoteProtocolError
from shared.messages import MAX_CHAT_MESSAGES, MAX_MESSAGE_BYTES, AgentMessage, VerifierMessage

# The longest array of any message is the list of chat messages; no message holds a map.
_LIMITS: dict[str, Any] = {
    "raw": False,
    "strict_map_key": True,
    "max_array_len": MAX_CHAT_MESSAGES,
    "max_map_len": 0,
    "max_ext_len": 0,
    "max_str_len": MAX_MESSAGE_BYTES,
    "max_bin_len": MAX_MESSAGE_BYTES,
}


def encode(message: AgentMessage | VerifierMessage) -> bytes:
    """The message as one MessagePack array; trailing fields that hold their default are left out."""
    fields = cast(list[Any], msgspec.to_builtins(message, builtin_types=(bytes,)))
    defaults = type(message).__struct_defaults__
    num_required = len(message.__struct_fields__) - len(defaults)
    values = [getattr(message, name) for name in message.__struct_fields__]
    while len(values) > num_required and values[-1] == defaults[len(values) - num_required - 1]:
        values.pop()
    packed: bytes = msgpack.packb(fields[: 1 + len(values)])
    if len(packed) > MAX_MESSAGE_BYTES:
        name = type(message).__name__
        raise LocalProtocolError(f"{name} of {len(packed)} bytes exceeds {MAX_MESSAGE_BYTES}")
    return packed


def decode_from_agent(packed: bytes) -> AgentMessage:
    """The agent's message.

    Raises:
        RemoteProtocolError: too long, not MessagePack, an unknown type, or a field out of range.
    """
    return cast(AgentMessage, _decode(packed, AgentMessage))


def decode_from_verifier(packed: bytes) -> VerifierMessage:
    """The verifier's message; raises like `decode_from_agent`."""
    return cast(VerifierMessage, _decode(packed, VerifierMessage))


def _decode(packed: bytes, message_type: Any) -> Any:
    if len(packed) > MAX_MESSAGE_BYTES:
        raise RemoteProtocolError(f"message of {len(packed)} bytes exceeds {MAX_MESSAGE_BYTES}")
    try:
        fields = msgpack.unpackb(packed, **_LIMITS)
    except (ValueError, RecursionError, msgpack.UnpackException) as error:
        reason = str(error) or type(error).__name__
        raise RemoteProtocolError(f"message is not valid MessagePack: {reason}") from error
    try:
        return msgspec.convert(fields, message_type, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise RemoteProtocolError(f"message is not allowed: {error}") from error
