"""A Draft as it comes in: what is cheap to see is checked first, rows are unpacked last.

Rows are dear, and most of what a board may send in vain falls at the cheap checks. This module must
never keep anything.
"""

from __future__ import annotations

from shared.errors import RemoteProtocolError
from shared.protocol.draft_packing import num_draft_tokens, num_packed_rows, unpack_draft
from shared.protocol.messages import AcceptanceMode, Draft
from verifier.streams.stream import Stream


def take_draft(stream: Stream, message: Draft, vocab_size: int, now: float) -> None:
    """Hand a draft to its stream; nothing is unpacked of one whose path is dead.

    Raises:
        RemoteProtocolError: it does not fit the mode or the path, or it is malformed.
    """
    num_tokens = num_draft_tokens(message)
    _check_form(stream.request.mode, num_tokens, num_packed_rows(message.rows))
    path, drafting_seconds = stream.path, message.drafting_milliseconds / 1e3
    if message.base < path.base:
        stream.drop_draft(num_tokens, drafting_seconds)
        return
    path.check_place(message.base, message.position, num_tokens, stream.granted_end)
    num_known = max(path.end - message.position, 0)
    stream.receive_draft(unpack_draft(message, vocab_size, num_known), drafting_seconds, now)


def _check_form(mode: AcceptanceMode, num_tokens: int, num_rows: int) -> None:
    if mode == "coupled" and num_rows:
        raise RemoteProtocolError(f"a coupled draft came with {num_rows} rows")
    if mode == "rejection" and num_rows < num_tokens - 1:
        raise RemoteProtocolError(
            f"a rejection draft of {num_tokens} tokens came with {num_rows} rows"
        )
