"""From token ids to text, the same way on both ends: incremental UTF-8 and stop strings.

The text of a stream is the bytes of its ids (special ids and padding print nothing), cut before the
stop string that is complete first (of several at once the longest), decoded as UTF-8 with U+FFFD
for what is not. Nothing is given out before it is certain: bytes that may begin a stop string or
that are an unfinished character are held back.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextAssembler:
    """Makes one stream's text; `push` the committed ids in order, `close` once at the end."""

    def __init__(
        self, token_bytes: Sequence[bytes], special_ids: frozenset[int], stop: Sequence[str] = ()
    ) -> None:
        self._token_bytes = token_bytes
        self._special_ids = special_ids
        self._stop = tuple(stop_string.encode() for stop_string in stop)
        self._longest_stop = max((len(stop_bytes) for stop_bytes in self._stop), default=0)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = b""  # bytes that may be the beginning of a stop string
        self._num_bytes_out = 0
        self.is_stopped = False

    @property
    def num_bytes(self) -> int:
        """Bytes of the text so far: those before the stop string, or all of them."""
        return self._num_bytes_out + (0 if self.is_stopped else len(self._held))

    def push(self, token_id: int) -> str:
        """Text that became certain with this token; sets `is_stopped` at a stop string."""
        # A target may have more padding than the vocabulary that is known here.
        is_known = token_id < len(self._token_bytes)
        if self.is_stopped or token_id in self._special_ids or not is_known:
            return ""
        if not self._stop:
            return self._decode(self._token_bytes[token_id])
        self._held += self._token_bytes[token_id]
        found = [(at + len(s), at) for s in self._stop if (at := self._held.find(s)) >= 0]
        if found:
            self.is_stopped = True
            _, stop_at = min(found)  # complete first, so that token borders do not matter
            return self._release(stop_at)
        return self._release(len(self._held) - self._num_uncertain())

    def close(self) -> str:
        """The rest of the text: what was held back, and U+FFFD for an unfinished character."""
        rest = "" if self.is_stopped else self._release(len(self._held))
        return rest + self._decoder.decode(b"", final=True)

    def cut(self, num_bytes: int) -> str:
        """The rest of the text when the other end says how many bytes count."""
        if not self.is_stopped:
            wanted = min(max(num_bytes - self._num_bytes_out, 0), len(self._held))
            rest = self._release(wanted)
            self.is_stopped = True
            return rest + self._decoder.decode(b"", final=True)
        return self._decoder.decode(b"", final=True)

    def _num_uncertain(self) -> int:
        """Length of the longest end of the held bytes that begins a stop string."""
        for length in range(min(self._longest_stop - 1, len(self._held)), 0, -1):
            if any(stop_bytes.startswith(self._held[-length:]) for stop_bytes in self._stop):
                return length
        return 0

    def _release(self, num_bytes: int) -> str:
        certain, self._held = self._held[:num_bytes], self._held[num_bytes:]
        return self._decode(certain)

    def _decode(self, certain: bytes) -> str:
        self._num_bytes_out += len(certain)
        return self._decoder.decode(certain)
