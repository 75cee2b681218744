"""A Draft message as the path sees it; its form is checked here, its place by the path.

Pure.  This module must never let an id, a row or a count through that the target cannot use.
"""

from __future__ import annotations

from shared.errors import RemoteProtocolError
from shared.messages import Draft
from shared.path import DraftToken, Extension
from shared.sparse_rows import unpack_rows
from shared.token_ids import unpack_token_ids


def unpack_draft(message: Draft, vocab_size: int) -> Extension:
    """The draft's tokens, each with its row; the last one ends the chunk.

    Raises:
        RemoteProtocolError: ids or rows are malformed, or do not belong together.
    """
    token_ids = unpack_token_ids(message.tokens, vocab_size).tolist()
    rows = unpack_rows(message.rows, vocab_size)
    num_bare = len(token_ids) - len(rows)  # all of them, or the guess that comes first
    if num_bare < 0 or (rows and num_bare > 1):
        raise RemoteProtocolError(f"{len(rows)} rows came for {len(token_ids)} draft tokens")
    for i, row in enumerate(rows, start=num_bare):
        if token_ids[i] not in row.token_ids:  # nobody draws a token of probability 0
            raise RemoteProtocolError(f"the row of draft token {i} does not hold that token")
    last = len(token_ids) - 1
    tokens = tuple(
        DraftToken(token_id, rows[i - num_bare] if i >= num_bare else None, i == last)
        for i, token_id in enumerate(token_ids)
    )
    return Extension(message.base, message.position, tokens)
