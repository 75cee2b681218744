"""What may be said when: the state machines of both ends, for a connection and for a stream.

The tables are the protocol. A message that a table does not hold for the present state is an
error of the end that sent it. This module must never act; the drivers do what a transition calls
for.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from shared.errors import RemoteProtocolError
from shared.protocol.messages import (
    Assignment,
    Cancel,
    Draft,
    DraftHeld,
    Error,
    GoingAway,
    Goodbye,
    Hello,
    Message,
    Notice,
    Open,
    Opened,
    OpenPart,
    PromptLogprobs,
    PromptPart,
    RatedDraft,
    Ready,
    Resume,
    Status,
    Verdict,
    Welcome,
)


class ConnectionState(Enum):
    """A connection, as either end sees it."""

    GREETING = "greeting"  # Hello or Welcome is still to come
    OPEN = "open"
    LEAVING = "leaving"  # the verifier said GoingAway: streams end, none may start
    CLOSED = "closed"

    __hash__ = object.__hash__  # of a member there is one; Enum's own hashes its name in Python


class StreamState(Enum):
    """A stream, as either end sees it."""

    ARRIVING = "arriving"  # for the verifier: an Open goes on, its last OpenPart is still to come
    OPENING = "opening"  # Open or Resume was sent, Opened was not
    RUNNING = "running"
    CANCELLING = "cancelling"  # Cancel was sent, the last Verdict was not
    ENDED = "ended"

    __hash__ = object.__hash__


_C, _S = ConnectionState, StreamState

# What the verifier may receive.
VERIFIER_CONNECTION: Mapping[tuple[ConnectionState, type[Message]], ConnectionState] = {
    (_C.GREETING, Hello): _C.OPEN,
    (_C.OPEN, Open): _C.OPEN,
    (_C.OPEN, OpenPart): _C.OPEN,
    (_C.OPEN, Resume): _C.OPEN,
    (_C.OPEN, Ready): _C.OPEN,
    (_C.OPEN, Draft): _C.OPEN,
    (_C.OPEN, RatedDraft): _C.OPEN,
    (_C.OPEN, Cancel): _C.OPEN,
    (_C.OPEN, Status): _C.OPEN,
    (_C.OPEN, DraftHeld): _C.OPEN,
    (_C.OPEN, Goodbye): _C.CLOSED,
    (_C.LEAVING, Ready): _C.LEAVING,
    (_C.LEAVING, Draft): _C.LEAVING,
    (_C.LEAVING, RatedDraft): _C.LEAVING,
    (_C.LEAVING, Cancel): _C.LEAVING,
    (_C.LEAVING, Status): _C.LEAVING,
    (_C.LEAVING, DraftHeld): _C.LEAVING,
    (_C.LEAVING, Open): _C.LEAVING,  # crossed our GoingAway; ignored, the agent opens it elsewhere
    (_C.LEAVING, OpenPart): _C.LEAVING,
    (_C.LEAVING, Resume): _C.LEAVING,
    (_C.LEAVING, Goodbye): _C.CLOSED,
}
VERIFIER_STREAM: Mapping[tuple[StreamState, type[Message]], StreamState] = {
    (_S.ARRIVING, OpenPart): _S.ARRIVING,  # OPENING when it is the last
    (_S.ARRIVING, Cancel): _S.CANCELLING,
    (_S.OPENING, Cancel): _S.CANCELLING,
    (_S.RUNNING, Ready): _S.RUNNING,
    (_S.RUNNING, Draft): _S.RUNNING,
    (_S.RUNNING, RatedDraft): _S.RUNNING,
    (_S.RUNNING, Cancel): _S.CANCELLING,
    (_S.CANCELLING, Ready): _S.CANCELLING,
    (_S.CANCELLING, Draft): _S.CANCELLING,
    (_S.CANCELLING, RatedDraft): _S.CANCELLING,
    (_S.CANCELLING, Cancel): _S.CANCELLING,
}

# What the agent may receive.
AGENT_CONNECTION: Mapping[tuple[ConnectionState, type[Message]], ConnectionState] = {
    (_C.GREETING, Welcome): _C.OPEN,
    (_C.GREETING, Error): _C.CLOSED,
    (_C.OPEN, Opened): _C.OPEN,
    (_C.OPEN, PromptPart): _C.OPEN,
    (_C.OPEN, PromptLogprobs): _C.OPEN,
    (_C.OPEN, Verdict): _C.OPEN,
    (_C.OPEN, Error): _C.OPEN,
    (_C.OPEN, GoingAway): _C.LEAVING,
    (_C.OPEN, Notice): _C.OPEN,
    (_C.OPEN, Assignment): _C.OPEN,
    (_C.LEAVING, Opened): _C.LEAVING,
    (_C.LEAVING, PromptPart): _C.LEAVING,
    (_C.LEAVING, PromptLogprobs): _C.LEAVING,
    (_C.LEAVING, Verdict): _C.LEAVING,
    (_C.LEAVING, Error): _C.LEAVING,
    (_C.LEAVING, Notice): _C.LEAVING,
    (_C.LEAVING, Assignment): _C.LEAVING,
}
AGENT_STREAM: Mapping[tuple[StreamState, type[Message]], StreamState] = {
    (_S.OPENING, Opened): _S.RUNNING,
    (_S.OPENING, Error): _S.ENDED,
    (_S.RUNNING, PromptPart): _S.RUNNING,
    (_S.RUNNING, PromptLogprobs): _S.RUNNING,
    (_S.RUNNING, Verdict): _S.RUNNING,  # ENDED when it holds a finish
    (_S.RUNNING, Error): _S.ENDED,
    (_S.CANCELLING, Opened): _S.CANCELLING,
    (_S.CANCELLING, PromptPart): _S.CANCELLING,
    (_S.CANCELLING, PromptLogprobs): _S.CANCELLING,
    (_S.CANCELLING, Verdict): _S.CANCELLING,
    (_S.CANCELLING, Error): _S.ENDED,
}

_State = TypeVar("_State", ConnectionState, StreamState)


def next_state(
    table: Mapping[tuple[_State, type[Message]], _State], state: _State, message: Message
) -> _State:
    """The state after receiving `message`.

    Raises:
        RemoteProtocolError: the message is not allowed in this state.
    """
    following = table.get((state, type(message)))
    if following is None:
        name = type(message).__name__
        raise RemoteProtocolError(f"{name} is not allowed while {state.value}")
    return following
