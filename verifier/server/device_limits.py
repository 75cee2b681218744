"""How much one device may ask for: token buckets for messages and bytes, a sum of context tokens.

Pure: `now` is an argument. What a device has used outlives its connections, so that coming back
refills nothing. This module must never decide what becomes of a device that asks for more.
"""

from __future__ import annotations

import msgspec

from shared.daemon.log_limit import LogLimit
from shared.errors import RemoteProtocolError
from shared.protocol.logprobs import MAX_PROMPT_LOGPROB_BYTES
from shared.protocol.messages import PART_BYTES, ErrorCode
from verifier.server.takeovers import Takeovers

# A link that stood still delivers at once what was said meanwhile.
BURST_SECONDS = 2.0
# What costs more work than a Draft, counted in messages. Open and Cancel together take 250 µs, a
# short prompt's tokens included. A connection costs an upgrade, a greeting and two lines of the
# log; boards come back with growing pauses, from half a second on.
OPEN_COST = 16
CONNECTION_COST = 1000
# Beside one `Opened` for each stream, and what it asks of its prompt: about 10,000 verdicts.
QUEUED_BYTES = 1 << 20


class DeviceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator allows each device."""

    messages_per_second: int
    bytes_per_second: int
    context_tokens: int | None  # prompts and most output of all streams; None: any
    max_streams: int
    prompt_bytes: int  # of the longest prompt, in all of its parts

    @property
    def burst_messages(self) -> float:
        """What may come at once; every stream may be opened anew after a lost connection."""
        open_cost = OPEN_COST + self.prompt_bytes // PART_BYTES
        reopening = CONNECTION_COST + open_cost * self.max_streams
        return self.messages_per_second * BURST_SECONDS + reopening

    @property
    def burst_bytes(self) -> float:
        """What may come at once, every stream's longest prompt included."""
        return self.bytes_per_second * BURST_SECONDS + self.prompt_bytes * self.max_streams

    def queued_bytes(self, opened_bytes: int) -> int:
        """What may wait to be read, where an `Opened` takes up to `opened_bytes`."""
        return QUEUED_BYTES + (opened_bytes + MAX_PROMPT_LOGPROB_BYTES) * self.max_streams


class TokenBucket:
    """Amounts that may be taken: `per_second` flow in, `burst` have room, and it starts full."""

    __slots__ = ("_burst", "_level", "_per_second", "_since")

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self._per_second = per_second
        self._burst = self._level = burst
        self._since = now

    def resize(self, per_second: float, burst: float, now: float) -> None:
        """As much is missing from now on as before, of another burst."""
        self._fill(now)
        self._level += burst - self._burst
        self._per_second, self._burst = per_second, burst

    def take(self, amount: float, now: float) -> bool:
        """Take an amount out; nothing, and False, where there is not as much."""
        self._fill(now)
        if amount > self._level:
            return False
        self._level -= amount
        return True

    def _fill(self, now: float) -> None:
        if now > self._since:
            level = self._level + (now - self._since) * self._per_second
            self._level = level if level < self._burst else self._burst
        self._since = now


class DeviceUsage:
    """What one device has used, over all of its connections."""

    __slots__ = (
        *("_bytes", "_messages", "limits", "log_limit"),
        *("num_exceeded", "num_queued_bytes", "takeovers"),
    )

    def __init__(self, limits: DeviceLimits, now: float) -> None:
        self.limits = limits
        self.log_limit = LogLimit()
        self.takeovers = Takeovers()
        self.num_exceeded = 0  # how often it was told that it went beyond a limit
        self.num_queued_bytes = 0  # of messages that wait for the board to read
        self._messages = TokenBucket(limits.messages_per_second, limits.burst_messages, now)
        self._bytes = TokenBucket(limits.bytes_per_second, limits.burst_bytes, now)

    def replace_limits(self, limits: DeviceLimits, now: float) -> None:
        """Others hold from now on."""
        self.limits = limits
        self._messages.resize(limits.messages_per_second, limits.burst_messages, now)
        self._bytes.resize(limits.bytes_per_second, limits.burst_bytes, now)

    def take_messages(self, cost: int, now: float) -> None:
        """Account for a message.

        Raises:
            RemoteProtocolError: there were too many.
        """
        if not self._messages.take(cost, now):
            raise _exceeded(f"more than {self.limits.messages_per_second} messages a second")

    def take_bytes(self, num_bytes: int, now: float) -> None:
        """Account for bytes as they come, whatever frames they make; raises as `take_messages`."""
        if not self._bytes.take(num_bytes, now):
            raise _exceeded(f"more than {self.limits.bytes_per_second} bytes a second")

    def check_context(self, num_tokens: int) -> None:
        """All streams together may come to `num_tokens`.

        Raises:
            RemoteProtocolError: that is too many.
        """
        limit = self.limits.context_tokens
        if limit is not None and num_tokens > limit:
            raise _exceeded(f"the device's streams may come to {num_tokens} tokens, beyond {limit}")


def _exceeded(sentence: str) -> RemoteProtocolError:
    return RemoteProtocolError(sentence, ErrorCode.LIMIT)
