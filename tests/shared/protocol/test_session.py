"""What may be said when: every state against every message, for both ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

import pytest

from shared.errors import ErrorCode, RemoteProtocolError
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
from shared.protocol.session import (
    AGENT_CONNECTION,
    AGENT_STREAM,
    VERIFIER_CONNECTION,
    VERIFIER_STREAM,
    ConnectionState,
    StreamState,
    next_state,
)

MESSAGES: tuple[Message, ...] = (
    Hello(protocol_version=1),
    Open(channel=1, stream_id=2),
    OpenPart(channel=1, number=1),
    Resume(channel=1, stream_id=2),
    Ready(channel=1),
    Draft(channel=1, base=0, offset=0, tokens=b""),
    RatedDraft(channel=1, base=0, offset=0, tokens=b""),
    Cancel(channel=1),
    Status(draft_microseconds=1),
    DraftHeld(sha256=b"s" * 32),
    Goodbye(),
    Welcome(1, target_model="", vocab_size=1, epoch=1, context_tokens=1, max_streams=1),
    Opened(channel=1, prompt=b"", seed=1, acceptance_mode="coupled"),
    PromptPart(channel=1, offset=0, tokens=b""),
    PromptLogprobs(channel=1, logprobs=b""),
    Verdict(channel=1, position=0, num_accepted=0, tokens=b""),
    Error(code=ErrorCode.LIMIT, sentence=""),
    GoingAway(retry_after_seconds=1.0),
    Notice(because=""),
    Assignment(),
)

# The next state: a column for each state, a row for each message; "-": an error of the sender.
VERIFIER_CONNECTION_GRID = """
from            greeting  open    leaving  closed
Hello           open      -       -        -
Open            -         open    leaving  -
OpenPart        -         open    leaving  -
Resume          -         open    leaving  -
Ready           -         open    leaving  -
Draft           -         open    leaving  -
RatedDraft      -         open    leaving  -
Cancel          -         open    leaving  -
Status          -         open    leaving  -
DraftHeld       -         open    leaving  -
Goodbye         -         closed  closed   -
Welcome         -         -       -        -
Opened          -         -       -        -
PromptPart      -         -       -        -
PromptLogprobs  -         -       -        -
Verdict         -         -       -        -
Error           -         -       -        -
GoingAway       -         -       -        -
Notice          -         -       -        -
Assignment      -         -       -        -
"""
AGENT_CONNECTION_GRID = """
from            greeting  open     leaving  closed
Hello           -         -        -        -
Open            -         -        -        -
OpenPart        -         -        -        -
Resume          -         -        -        -
Ready           -         -        -        -
Draft           -         -        -        -
RatedDraft      -         -        -        -
Cancel          -         -        -        -
Status          -         -        -        -
DraftHeld       -         -        -        -
Goodbye         -         -        -        -
Welcome         open      -        -        -
Opened          -         open     leaving  -
PromptPart      -         open     leaving  -
PromptLogprobs  -         open     leaving  -
Verdict         -         open     leaving  -
Error           closed    open     leaving  -
GoingAway       -         leaving  -        -
Notice          -         open     leaving  -
Assignment      -         open     leaving  -
"""
VERIFIER_STREAM_GRID = """
from            arriving    opening     running     cancelling  ended
Hello           -           -           -           -           -
Open            -           -           -           -           -
OpenPart        arriving    -           -           -           -
Resume          -           -           -           -           -
Ready           -           -           running     cancelling  -
Draft           -           -           running     cancelling  -
RatedDraft      -           -           running     cancelling  -
Cancel          cancelling  cancelling  cancelling  cancelling  -
Status          -           -           -           -           -
DraftHeld       -           -           -           -           -
Goodbye         -           -           -           -           -
Welcome         -           -           -           -           -
Opened          -           -           -           -           -
PromptPart      -           -           -           -           -
PromptLogprobs  -           -           -           -           -
Verdict         -           -           -           -           -
Error           -           -           -           -           -
GoingAway       -           -           -           -           -
Notice          -           -           -           -           -
Assignment      -           -           -           -           -
"""
AGENT_STREAM_GRID = """
from            arriving  opening  running  cancelling  ended
Hello           -         -        -        -           -
Open            -         -        -        -           -
OpenPart        -         -        -        -           -
Resume          -         -        -        -           -
Ready           -         -        -        -           -
Draft           -         -        -        -           -
RatedDraft      -         -        -        -           -
Cancel          -         -        -        -           -
Status          -         -        -        -           -
DraftHeld       -         -        -        -           -
Goodbye         -         -        -        -           -
Welcome         -         -        -        -           -
Opened          -         running  -        cancelling  -
PromptPart      -         -        running  cancelling  -
PromptLogprobs  -         -        running  cancelling  -
Verdict         -         -        running  cancelling  -
Error           -         ended    ended    ended       -
GoingAway       -         -        -        -           -
Notice          -         -        -        -           -
Assignment      -         -        -        -           -
"""

Table = Mapping[tuple[Any, type[Message]], Any]


def cells(
    table: Table, states: type[Enum], grid: str
) -> Iterator[tuple[Table, Enum, Message, str]]:
    """Every state and message of a grid with what it says about them."""
    (_, *values), *rows = (line.split() for line in grid.strip().splitlines())
    assert [state.value for state in states] == values
    for message, (name, *following) in zip(MESSAGES, rows, strict=True):
        assert type(message).__name__ == name
        for state, value in zip(states, following, strict=True):
            yield table, state, message, value


CELLS = [
    *cells(VERIFIER_CONNECTION, ConnectionState, VERIFIER_CONNECTION_GRID),
    *cells(AGENT_CONNECTION, ConnectionState, AGENT_CONNECTION_GRID),
    *cells(VERIFIER_STREAM, StreamState, VERIFIER_STREAM_GRID),
    *cells(AGENT_STREAM, StreamState, AGENT_STREAM_GRID),
]
ALLOWED = [cell for cell in CELLS if cell[3] != "-"]
REFUSED = [cell[:3] for cell in CELLS if cell[3] == "-"]


def test_every_pair_of_the_four_tables_is_enumerated() -> None:
    num_states = 2 * len(ConnectionState) + 2 * len(StreamState)
    assert num_states * len(MESSAGES) == len(CELLS) == len(ALLOWED) + len(REFUSED)
    assert len(ALLOWED) == sum(
        map(len, (VERIFIER_CONNECTION, AGENT_CONNECTION, VERIFIER_STREAM, AGENT_STREAM))
    )


@pytest.mark.parametrize(("table", "state", "message", "following"), ALLOWED)
def test_an_allowed_message_leads_to_the_next_state(
    table: Table, state: Any, message: Message, following: str
) -> None:
    assert type(state)(following) is next_state(table, state, message)


@pytest.mark.parametrize(("table", "state", "message"), REFUSED)
def test_any_other_message_is_an_error_of_its_sender(
    table: Table, state: Any, message: Message
) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        next_state(table, state, message)
    name = type(message).__name__
    assert f"{name} is not allowed while {state.value}" == str(caught.value)
    assert caught.value.code is ErrorCode.PROTOCOL


@pytest.mark.parametrize("state", [ConnectionState.CLOSED, StreamState.ENDED])
def test_nothing_follows_the_end(state: Enum) -> None:
    assert [] == [cell for cell in ALLOWED if cell[1] is state]
