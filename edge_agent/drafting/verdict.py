"""What a verdict accepts of a path, and what it did to it.

Pure.  This module must never change a path: the stream does.
"""

from __future__ import annotations

import msgspec

from shared.errors import RemoteProtocolError
from shared.protocol.draft_path import DraftPath
from shared.protocol.messages import Verdict
from shared.protocol.token_ids import count_token_ids


class Committed(msgspec.Struct, frozen=True):
    """What a verdict committed."""

    token_ids: tuple[int, ...]
    num_accepted: int  # the first ones were drafted here
    num_tested: int  # the accepted ones, and the one that differed
    num_dead: int  # draft tokens that a difference made worthless
    num_survived: int  # draft tokens equal to what was committed there


def accepted_ids(message: Verdict, position: int, path: DraftPath) -> tuple[int, ...]:
    """The tokens of a path that a verdict accepts, when `position` tokens are committed.

    Raises:
        RemoteProtocolError: it is for another position, accepts what was not sent, or grants a
            window where nothing may be drafted.
    """
    if message.position != position:
        raise RemoteProtocolError(f"verdict at {message.position}, not at {position}")
    num_live = len(path.live)
    if message.num_accepted > num_live:
        raise RemoteProtocolError(
            f"verdict accepts {message.num_accepted} tokens of {num_live} sent"
        )
    after = position + message.num_accepted + count_token_ids(message.tokens)
    if message.window and after < path.base:
        raise RemoteProtocolError(f"verdict grants a window at {after}, before base {path.base}")
    return tuple(token.token_id for token in path.live[: message.num_accepted])


def committed(
    token_ids: tuple[int, ...], num_accepted: int, before: DraftPath, after: DraftPath
) -> Committed:
    """What these tokens did to the path that was sent."""
    num_dead = 0
    num_survived = min(len(before.live), len(token_ids))
    if after.base > before.base:
        num_survived = after.base - 1 - before.position
        num_dead = len(before.live) - num_survived
    num_tested = num_accepted + int(num_dead > 0)
    return Committed(token_ids, num_accepted, num_tested, num_dead, num_survived)
