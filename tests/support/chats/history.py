"""What a verifier, an agent and a client saw of one stream, held against the undisturbed run.

Pure: records in, sentences out.  Whatever the network and the processes did in between, no token
and no character may be missing, repeated, moved or changed.  Only one repetition is right: after
the agent has taken the stream up again, at the position it had committed by then, the verifier
says anew what the agent never heard, and it says the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_EXCERPT_CHARACTERS = 20


@dataclass(frozen=True)
class Undisturbed:
    """The same request without any disturbance."""

    token_ids: tuple[int, ...]  # the whole output, an end token included
    text: str


@dataclass(frozen=True)
class TakenUp:
    """The verifier opened the stream again, on another connection or after its own restart."""

    position: int  # number of tokens that the agent had committed


@dataclass(frozen=True)
class Committed:
    """One verdict, in the order in which the verifier made them."""

    position: int  # before it
    token_ids: tuple[int, ...]  # accepted ones and the target's own


@dataclass(frozen=True)
class StreamHistory:
    """One finished stream; its first opening, at 0, is not recorded."""

    stream: str
    verdicts: tuple[TakenUp | Committed, ...]
    agent_ids: tuple[int, ...]  # what the agent committed
    agent_pieces: tuple[str, ...]  # what it sent to the client
    client_pieces: tuple[str, ...]  # what the client received


def violations(history: StreamHistory, undisturbed: Undisturbed) -> list[str]:
    """Everything that is wrong, one sentence each; empty for a right history."""
    expected = undisturbed.token_ids
    found = [
        *_in_verdicts(history.verdicts, expected),
        *_in_ids("the agent", history.agent_ids, expected),
        *_in_text("the agent", "".join(history.agent_pieces), undisturbed.text),
        *_in_text("the client", "".join(history.client_pieces), undisturbed.text),
        *_in_pieces(history.client_pieces, history.agent_pieces),
    ]
    return [f"stream {history.stream}: {sentence}" for sentence in found]


def _in_verdicts(verdicts: Sequence[TakenUp | Committed], expected: Sequence[int]) -> Iterator[str]:
    position = taken_up_at = 0
    for verdict in verdicts:
        if isinstance(verdict, TakenUp):
            yield from _in_taking_up(verdict.position, taken_up_at, position)
            taken_up_at = verdict.position
        elif verdict.position > position:
            yield f"a verdict at position {verdict.position} leaves a gap after {position}"
        elif verdict.position < position:
            yield (
                f"a verdict at position {verdict.position} repeats what was said up to {position}"
            )
        position = verdict.position
        if isinstance(verdict, Committed):
            yield from _in_one_verdict(verdict, expected)
            position += len(verdict.token_ids)
    if position < len(expected):
        yield f"the verdicts end at position {position} of {len(expected)}"


def _in_taking_up(position: int, earlier: int, said: int) -> Iterator[str]:
    """The agent had committed the tokens before `earlier`, and then heard those before `said`."""
    if position > said:
        yield (
            f"it was taken up at position {position}, "
            f"but the verifier had said only what is before {said}"
        )
    if position < earlier:
        yield f"it was taken up at position {position}, after the agent had committed {earlier}"


def _in_one_verdict(verdict: Committed, expected: Sequence[int]) -> Iterator[str]:
    end = verdict.position + len(verdict.token_ids)
    there = expected[verdict.position : end]
    for i, (token_id, right_id) in enumerate(zip(verdict.token_ids, there, strict=False)):
        if token_id != right_id:
            yield (
                f"the verdict at position {verdict.position} has token {token_id} "
                f"at position {verdict.position + i}, not {right_id}"
            )
            return
    if end > len(expected):
        yield (
            f"the verdict at position {verdict.position} goes on to {end}, "
            f"but the output ends at {len(expected)}"
        )


def _in_ids(who: str, token_ids: Sequence[int], expected: Sequence[int]) -> Iterator[str]:
    at = _first_difference(token_ids, expected)
    if at is None:
        return
    if at == len(token_ids):
        yield f"{who}'s tokens end at position {at} of {len(expected)}"
    elif at == len(expected):
        yield f"{who} has token {token_ids[at]} at position {at}, where the output has ended"
    else:
        yield f"{who} has token {token_ids[at]} at position {at}, not {expected[at]}"


def _in_text(who: str, text: str, expected: str) -> Iterator[str]:
    at = _first_difference(text, expected)
    if at is None:
        return
    has, right = (whole[at : at + _EXCERPT_CHARACTERS] for whole in (text, expected))
    if not has:
        yield f"{who}'s text ends at character {at} of {len(expected)}, before {right!r}"
    elif not right:
        yield f"{who}'s text has {has!r} at character {at}, where the output has ended"
    else:
        yield f"{who}'s text has {has!r} at character {at}, not {right!r}"


def _in_pieces(received: Sequence[str], sent: Sequence[str]) -> Iterator[str]:
    at = _first_difference(received, sent)
    if at is None:
        return
    if at == len(received):
        yield f"the client has received {at} pieces of {len(sent)}"
    elif at == len(sent):
        yield f"the client has received {received[at]!r} as piece {at}, after the last one sent"
    else:
        yield f"the client has received {received[at]!r} as piece {at}, not {sent[at]!r}"


def _first_difference(one: Sequence[object], other: Sequence[object]) -> int | None:
    """The first index at which they differ, or at which one of them has ended."""
    for i, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return i
    return None if len(one) == len(other) else min(len(one), len(other))
