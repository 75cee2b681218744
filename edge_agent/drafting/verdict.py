"""What a verdict accepts of a path, and what it did to it.

Pure. This module must never change a path: the stream does.
"""

from __future__ import annotations

import msgspec

from shared.errors import RemoteProtocolError
from shared.protocol.draft_path import DraftPath
from shared.protocol.messages import Verdict
from shared.protocol.token_ids import unpack_token_list


class Committed(msgspec.Struct, frozen=True):
    """What a verdict committed."""

    output_ids: tuple[int, ...]  # the accepted draft tokens, then the target's own
    num_accepted: int
    num_tested: int  # the accepted ones, and the one that differed
    num_dead: int  # draft tokens that a difference made worthless
    num_survived: int  # draft tokens equal to what was committed there
    num_forced: int = 0  # behind the accepted ones: what a grammar forced


def read_verdict(message: Verdict, vocab_size: int, path: DraftPath) -> tuple[int, ...]:
    """The output tokens that a verdict on a path commits: those accepted, then the target's own.

    Raises:
        RemoteProtocolError: its token ids are malformed, it is for another position, accepts what
            was not sent, or grants a window where nothing may be drafted.
    """
    own_token_ids = unpack_token_list(message.tokens, vocab_size)
    if message.position != path.position:
        raise RemoteProtocolError(f"verdict at {message.position}, not at {path.position}")
    num_live = len(path.live)
    if message.num_accepted > num_live:
        raise RemoteProtocolError(
            f"verdict accepts {message.num_accepted} tokens of {num_live} sent"
        )
    after = path.position + message.num_accepted + len(own_token_ids)
    if message.window and after < path.base:
        raise RemoteProtocolError(f"verdict grants a window at {after}, before base {path.base}")
    return (*(token.token_id for token in path.live[: message.num_accepted]), *own_token_ids)


def settle_verdict(
    output_ids: tuple[int, ...], message: Verdict, before: DraftPath, after: DraftPath
) -> Committed:
    """What these tokens did to the path that was sent."""
    num_dead = 0
    num_survived = min(len(before.live), len(output_ids))
    if after.base > before.base:
        num_survived = after.base - 1 - before.position
        num_dead = len(before.live) - num_survived
    num_accepted = message.num_accepted
    num_tested = num_accepted + int(num_dead > 0)
    num_forced = min(message.num_forced, len(output_ids) - num_accepted)
    return Committed(output_ids, num_accepted, num_tested, num_dead, num_survived, num_forced)
