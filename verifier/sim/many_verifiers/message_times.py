"""When messages between devices and verifiers arrive: distance, jitter, loss, and their bytes.

A message that is lost is sent again, and holds up what its link carries behind it, as TCP does.
Sizes are those of the protocol's own messages. Times are drawn by a seed, each message's own,
whenever and in whatever process it is asked for. This module must never know a policy.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np

from shared.protocol.codec import encode
from shared.protocol.messages import MAX_63_BITS, Draft, Open, Verdict
from shared.protocol.token_ids import pack_token_ids
from shared.protocol.transport import BOARD_FRAME_HEADER_BYTES, VERIFIER_FRAME_HEADER_BYTES
from shared.speculation.goodput import FloatArray, IntArray
from verifier.sim.many_verifiers.drawing import NUM_POSITIONS
from verifier.sim.many_verifiers.setting import ManySetting

MessageKind = Literal["verdict", "draft", "request"]
_KINDS: tuple[MessageKind, ...] = get_args(MessageKind)
NUM_MESSAGE_TIMES = 1 << 16
_SPREAD = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFT, _LAST_SHIFT = np.uint64(31), np.uint64(48)  # 16 bits are left: a place of a time

# Of a usual token and place in a text: what a prompt of ids and a draft take for each token more.
_TOKEN_ID, _POSITION = 10_000, 1_000
TOKEN_BYTES = len(pack_token_ids([_TOKEN_ID] * 9)) / 9
_PACKED = pack_token_ids([_TOKEN_ID])
MESSAGE_BYTES = {
    # Accepted tokens are a number in it; beside them it carries one of the target's own.
    "verdict": len(encode(Verdict(1, _POSITION, 4, _PACKED, 16, 4))) + VERIFIER_FRAME_HEADER_BYTES,
    # Boards send each token as it is drafted.
    "draft": len(encode(Draft(1, _POSITION, 4, _PACKED, 20))) + BOARD_FRAME_HEADER_BYTES,
    "request": len(encode(Open(1, MAX_63_BITS, prompt=_PACKED))) + BOARD_FRAME_HEADER_BYTES,
}


class Trip(NamedTuple):
    """Of messages; both [num_messages]."""

    seconds: FloatArray
    resent_seconds: FloatArray  # of these: until it was sent for the last time


class MessageTimes:
    """Of one direction."""

    def __init__(self, setting: ManySetting, seed: int) -> None:
        random = np.random.default_rng([seed, 3])
        normal = random.standard_normal(NUM_MESSAGE_TIMES)
        self._seconds = 0.5 * setting.round_trip_seconds * np.exp(setting.jitter * normal)
        num_resent = random.geometric(1.0 - setting.loss, NUM_MESSAGE_TIMES) - 1
        self._resent_seconds = setting.resend_seconds * num_resent
        self._seconds += self._resent_seconds
        self._byte_seconds = byte_seconds(setting)

    def trips(
        self,
        kind: MessageKind,
        which: IntArray,
        requests: IntArray,
        rounds: IntArray,
        num_further_tokens: IntArray | int = 0,
    ) -> Trip:
        """Of devices' messages in these rounds of these requests; all [num_messages]."""
        numbers = (requests * NUM_POSITIONS + rounds) * len(_KINDS) + _KINDS.index(kind)
        # Multipliers of splitmix64: neighbours get places that have nothing to do with each other.
        mixed = which.astype(np.uint64) * _SPREAD[0] + numbers.astype(np.uint64) * _SPREAD[1]
        mixed = (mixed ^ (mixed >> _SHIFT)) * _SPREAD[0]
        places = (mixed >> _LAST_SHIFT).astype(np.int64)
        num_bytes = MESSAGE_BYTES[kind] + TOKEN_BYTES * num_further_tokens
        on_the_line = self._byte_seconds * num_bytes
        return Trip(self._seconds[places] + on_the_line, self._resent_seconds[places])


def byte_seconds(setting: ManySetting) -> float:
    """That a byte takes on a link; 0: it has no limit."""
    return 1.0 / setting.bytes_per_second if setting.bytes_per_second else 0.0
