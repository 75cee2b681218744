"""From token ids to text, the same way on both ends: incremental UTF-8 and stop strings.

The text of a stream is the bytes of its ids (special ids and padding print nothing), cut before the
stop string that is complete first (of several at once the longest), decoded as UTF-8 with U+FFFD
for what is not. Nothing is given out before it is certain: bytes that may begin a stop string or
that are an unfinished character are held back. Where a limit or a client cuts a text off, a
character that is unfinished there is no part of it: `num_whole_bytes` leaves it out.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from shared.protocol.stop_strings import StopMatcher

_MOST_UNFINISHED_BYTES = 3  # of a character of four
# Tokens that are counted at once: a round brings two or three, and going through them is dearer
# than looking them up.
_COUNTED_AT_ONCE = 64


class ByteAssembler:
    """Makes the bytes of one stream's text; `push` the committed ids in order, `close` at the end.

    The verifier needs no more: it counts them, and sees where a stop string ends them.
    """

    __slots__ = (
        "_held",
        "_last_bytes",
        "_num_bytes_out",
        "_special_ids",
        "_stops",
        "_token_bytes",
        "_uncounted_ids",
        "is_stopped",
    )

    def __init__(
        self, token_bytes: Sequence[bytes], special_ids: frozenset[int], stop: Sequence[str] = ()
    ) -> None:
        self._token_bytes = token_bytes
        self._special_ids = special_ids
        self._stops = StopMatcher([stop_string.encode() for stop_string in stop]) if stop else None
        self._held = b""  # bytes that may be the beginning of a stop string
        self._last_bytes = b""  # of the text, those held back included
        self._num_bytes_out = 0  # but for those of tokens that are not counted yet
        self._uncounted_ids: list[int] = []
        self.is_stopped = False

    @property
    def num_bytes_out(self) -> int:
        """Bytes that were given out."""
        self._count_all()
        return self._num_bytes_out

    @property
    def num_bytes(self) -> int:
        """Bytes of the text so far: those before the stop string, or all of them."""
        return self.num_bytes_out + (0 if self.is_stopped else len(self._held))

    @property
    def num_whole_bytes(self) -> int:
        """Bytes of the text so far without those of a last character that is not complete."""
        num_bytes = self.num_bytes
        return num_bytes - (0 if self.is_stopped else _num_unfinished(self._last_bytes))

    @property
    def has_stops(self) -> bool:
        """Whether a stop string may end the text."""
        return self._stops is not None

    def count(self, token_ids: Sequence[int]) -> None:
        """`push` of several tokens where there are no stop strings and no bytes are asked for."""
        assert self._stops is None, "a stop string may lie within these tokens"
        self._uncounted_ids += token_ids
        if len(self._uncounted_ids) >= _COUNTED_AT_ONCE:
            self._count_all()

    def push(self, token_id: int) -> bytes:
        """Bytes that became certain with this token; sets `is_stopped` at a stop string."""
        self._count_all()
        # A target may have more padding than the vocabulary that is known here.
        is_known = token_id < len(self._token_bytes)
        if self.is_stopped or token_id in self._special_ids or not is_known:
            return b""
        new = self._token_bytes[token_id]
        self._last_bytes = (self._last_bytes + new)[-_MOST_UNFINISHED_BYTES:]
        if self._stops is None:
            self._num_bytes_out += len(new)
            return new
        found = self._stops.find(new)
        num_held = len(self._held)
        self._held += new
        if found is None:
            return self._release(len(self._held) - self._stops.num_pending_bytes)
        self.is_stopped = True
        end, length = found
        return self._release(num_held + end - length)

    def close(self) -> bytes:
        """The rest of the text: what was held back."""
        return b"" if self.is_stopped else self._release(len(self._held))

    def cut(self, num_bytes: int) -> bytes:
        """The rest of the text when the other end says how many bytes count."""
        if self.is_stopped:
            return b""
        rest = self._release(min(max(num_bytes - self.num_bytes_out, 0), len(self._held)))
        self.is_stopped = True
        return rest

    def _count_all(self) -> None:
        if not self._uncounted_ids:
            return
        token_bytes, special_ids = self._token_bytes, self._special_ids
        num_known, token_ids = len(token_bytes), self._uncounted_ids
        new = b"".join(
            [token_bytes[i] for i in token_ids if i < num_known and i not in special_ids]
        )
        self._last_bytes = (self._last_bytes + new)[-_MOST_UNFINISHED_BYTES:]
        self._num_bytes_out += len(new)
        self._uncounted_ids = []

    def _release(self, num_bytes: int) -> bytes:
        certain, self._held = self._held[:num_bytes], self._held[num_bytes:]
        self._num_bytes_out += len(certain)
        return certain


def _num_unfinished(last_bytes: bytes) -> int:
    """How many of a text's last bytes begin a character that is not complete."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoder.decode(last_bytes)
    return len(decoder.getstate()[0])


class TextAssembler:
    """Makes one stream's text; `push` the committed ids in order, `close` once at the end."""

    def __init__(
        self, token_bytes: Sequence[bytes], special_ids: frozenset[int], stop: Sequence[str] = ()
    ) -> None:
        self._bytes = ByteAssembler(token_bytes, special_ids, stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    @property
    def num_bytes(self) -> int:
        """Bytes of the text so far: those before the stop string, or all of them."""
        return self._bytes.num_bytes

    @property
    def num_whole_bytes(self) -> int:
        """Bytes of the text so far without those of a last character that is not complete."""
        return self._bytes.num_whole_bytes

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string ended the text."""
        return self._bytes.is_stopped

    def push(self, token_id: int) -> str:
        """Text that became certain with this token."""
        return self._decoder.decode(self._bytes.push(token_id))

    def close(self) -> str:
        """The rest of the text: what was held back, and U+FFFD for an unfinished character."""
        return self._decoder.decode(self._bytes.close(), final=True)

    def cut(self, num_bytes: int) -> str:
        """The rest of the text when the other end says how many bytes count.

        U+FFFD stands for an unfinished character whose bytes count.
        """
        num_pending = len(self._decoder.getstate()[0])
        num_excess = self._bytes.num_bytes_out - num_bytes
        rest = self._bytes.cut(num_bytes)
        if 0 < num_excess <= num_pending:
            pending, flag = self._decoder.getstate()
            self._decoder.setstate((pending[: num_pending - num_excess], flag))
        return self._decoder.decode(rest, final=True)
