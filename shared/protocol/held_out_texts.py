"""Texts of a target that no draft has learned, with its distributions: what drafts are judged by.

The verifier's side writes them where the target runs, and the board's side, which has llama.cpp,
judges drafts by them. Pure. It must never hold a number of a draft.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from shared.errors import ModelError

JudgedMode = Literal["greedy", "0.8", "1"]
JUDGED_MODES: tuple[JudgedMode, ...] = ("greedy", "0.8", "1")  # 0.8 is with top-p 0.95
MAX_TEXTS = 100_000
MAX_FILE_BYTES = 1 << 30
_MAGIC = b"goodspeed texts 1\n"
_LEVEL = 6


class TargetRow(msgspec.Struct, frozen=True, eq=False):
    """The likeliest tokens of the target at one position, as a request's sampling leaves them."""

    token_ids: NDArray[np.uint32]  # most likely first
    probs: NDArray[np.float32]  # their sum is below 1 where a tail was left out


class HeldOutText(msgspec.Struct, frozen=True):
    """An answer to a prompt; the rows of all its positions lie behind each other."""

    domain: str
    mode: JudgedMode
    prompt: bytes  # uint32
    tokens: bytes  # uint32
    row_ends: bytes  # uint32, of each position; empty in greedy, where the token says it all
    row_ids: bytes  # uint32
    row_probs: bytes  # float16

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The tokens of the prompt."""
        return tuple(np.frombuffer(self.prompt, np.uint32).tolist())

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The tokens of the answer."""
        return tuple(np.frombuffer(self.tokens, np.uint32).tolist())

    def row(self, position: int) -> TargetRow:
        """The target's distribution of one token of the answer, not in greedy."""
        ends = np.frombuffer(self.row_ends, np.uint32)
        start, end = int(ends[position - 1]) if position else 0, int(ends[position])
        probs = np.frombuffer(self.row_probs, np.float16)[start:end].astype(np.float32)
        return TargetRow(np.frombuffer(self.row_ids, np.uint32)[start:end], probs)


class HeldOutTexts(msgspec.Struct, frozen=True):
    """All texts, of one target."""

    target: str  # its file's name
    vocab_size: Annotated[int, Meta(ge=1)]
    texts: Annotated[tuple[HeldOutText, ...], Meta(max_length=MAX_TEXTS)]


def text_of(
    domain: str,
    mode: JudgedMode,
    prompt_ids: Sequence[int],
    token_ids: Sequence[int],
    rows: Sequence[TargetRow],
) -> HeldOutText:
    """One text; `rows` are those of its tokens, none in greedy."""
    nothing = np.zeros(0)
    ids = np.concatenate([row.token_ids for row in rows]) if rows else nothing
    probs = np.concatenate([row.probs for row in rows]) if rows else nothing
    ends = np.cumsum([len(row.probs) for row in rows])
    return HeldOutText(
        domain,
        mode,
        np.asarray(prompt_ids, np.uint32).tobytes(),
        np.asarray(token_ids, np.uint32).tobytes(),
        ends.astype(np.uint32).tobytes(),
        ids.astype(np.uint32).tobytes(),
        probs.astype(np.float16).tobytes(),
    )


def pack_texts(texts: HeldOutTexts) -> bytes:
    """The content of a file."""
    return _MAGIC + zlib.compress(msgspec.msgpack.encode(texts), _LEVEL)


def unpack_texts(content: bytes, name: str) -> HeldOutTexts:
    """What a file called `name` holds.

    Raises:
        ModelError: it is no such file, or a broken one.
    """
    if not content.startswith(_MAGIC):
        raise ModelError(f"{name} holds no texts of a target; `goodspeed-verifier finetune` does")
    try:
        unpacker = zlib.decompressobj()
        unpacked = unpacker.decompress(content[len(_MAGIC) :], MAX_FILE_BYTES)
        texts = msgspec.msgpack.decode(unpacked, type=HeldOutTexts)
        if not unpacker.eof or not all(map(_is_whole, texts.texts)):
            raise ModelError(f"{name} is cut or broken")
    except (zlib.error, msgspec.MsgspecError) as error:
        raise ModelError(f"{name} is cut or broken: {error}") from error
    return texts


def _is_whole(text: HeldOutText) -> bool:
    num_tokens, num_ends = len(text.tokens) // 4, len(text.row_ends) // 4
    if num_ends not in (0, num_tokens) or not text.prompt or len(text.prompt) % 4:
        return False
    ends = np.frombuffer(text.row_ends, np.uint32)
    num_entries = int(ends[-1]) if num_ends else 0
    is_rising = bool((np.diff(ends.astype(np.int64)) >= 0).all())
    return is_rising and len(text.row_ids) == 4 * num_entries == 2 * len(text.row_probs)
