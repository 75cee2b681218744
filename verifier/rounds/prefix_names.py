"""Names of cache blocks by what they hold: equal names, equal tokens from the very first one on.

A block's name is a hash of the name before it and its own tokens. The first name of a chain is
made of the owner's, so no owner finds blocks of another, nor learns from the time to its own first
token what another has asked. Names have 256 bits: two chains of one name cannot be found, so it is
never necessary to compare the tokens. This module must never know a block's number.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Literal

import numpy as np

from verifier.streams.stream import Stream

PrefixSharing = Literal["off", "device", "all"]

_NAME_BYTES = 32


def owner_of(sharing: PrefixSharing, device: str, stream: int) -> str:
    """Who may begin with a stream's blocks: every stream of the same owner.

    Among all devices, the time to a first token tells that another one sent the same prompt; with
    sharing off it is the stream itself, when it has to read its tokens anew.
    """
    owners = {"all": "all", "device": f"device {device}", "off": f"stream {stream}"}
    return owners[sharing]


def root_name(owner: str) -> bytes:
    """The name that all chains of one owner start from; it is no block's."""
    return blake2b(owner.encode(), digest_size=_NAME_BYTES, person=b"owner").digest()


def following_names(name: bytes, token_ids: Sequence[int], block_tokens: int) -> list[bytes]:
    """Names of the full blocks that `token_ids` fill behind the block called `name`."""
    content = np.asarray(token_ids, dtype="<u4").tobytes()
    block_bytes = 4 * block_tokens
    names = []
    for start in range(0, len(content) - block_bytes + 1, block_bytes):
        block = content[start : start + block_bytes]
        name = blake2b(name + block, digest_size=_NAME_BYTES, person=b"block").digest()
        names.append(name)
    return names


class StreamNames:
    """Names of the full blocks of streams, made as they are asked for."""

    def __init__(self, sharing: PrefixSharing) -> None:
        self._sharing = sharing
        self._names: dict[int, list[bytes]] = {}  # a root, then each full block's

    def root_of(self, stream: Stream) -> bytes:
        """What the names of the stream's blocks start from."""
        return root_name(owner_of(self._sharing, stream.device, stream.number))

    def of_blocks(self, stream: Stream, num_blocks: int, block_tokens: int) -> list[bytes]:
        """Names of the stream's first blocks, whose tokens are committed."""
        names = self._of(stream)
        if len(names) <= num_blocks:
            start = (len(names) - 1) * block_tokens
            token_ids = stream.tokens(start, num_blocks * block_tokens)
            names += following_names(names[-1], token_ids, block_tokens)
        return names[1 : num_blocks + 1]

    def num_unmade(self, stream: Stream, num_blocks: int) -> int:
        """Of its first blocks, those that have no name yet."""
        return max(num_blocks + 1 - len(self._of(stream)), 0)

    def forget(self, stream: Stream) -> None:
        """Its names are not asked for any more."""
        self._names.pop(stream.number, None)

    def _of(self, stream: Stream) -> list[bytes]:
        return self._names.setdefault(stream.number, [self.root_of(stream)])
