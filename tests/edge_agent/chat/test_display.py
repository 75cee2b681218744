"""What the terminal chat shows of an answer's figures."""

from __future__ import annotations

import msgspec
import pytest

from edge_agent.chat.display import details
from edge_agent.generation.chat_messages import ChatFinished
from tests.support.messages.timings import TIMINGS

RESTS = "drafts         off: the verifier measures that all streams are faster without them"


@pytest.mark.parametrize("drafts_rest", [False, True])
def test_stats_say_when_the_verifier_wants_no_drafts(drafts_rest: bool) -> None:
    timings = msgspec.structs.replace(TIMINGS, drafts_rest=drafts_rest)
    finished = ChatFinished(reason="end", timings=timings, seed=7, acceptance_mode="coupled")
    assert drafts_rest == (RESTS in details(finished, 1, 5).splitlines())
