"""Which tokens of a draft must carry a row: pure."""

from __future__ import annotations

from shared.errors import RemoteProtocolError
from shared.protocol.draft_path import Extension
from shared.protocol.messages import AcceptanceMode


def check_draft_form(draft: Extension, mode: AcceptanceMode) -> None:
    """The form of a draft is that of its stream's mode.

    Raises:
        RemoteProtocolError: a row is missing in `rejection`, or there is one in `coupled`.
    """
    num_rows = sum(token.row is not None for token in draft.tokens)
    if mode == "coupled" and num_rows:
        raise RemoteProtocolError(f"a coupled draft came with {num_rows} rows")
    if mode == "rejection" and any(t.row is None for t in draft.tokens[1:]):
        raise RemoteProtocolError(
            f"a rejection draft of {len(draft.tokens)} tokens came with {num_rows} rows"
        )
