"""A verifier that breaks the protocol ends a stream; it never breaks the agent."""

from __future__ import annotations

import pytest

from edge_agent.drafting.settings import DraftSettings
from edge_agent.drafting.stream import AgentStream
from shared.errors import RemoteProtocolError
from shared.protocol.messages import Opened, Verdict
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.sampling import SamplingParameters


def rejection_stream() -> AgentStream:
    stream = AgentStream(
        channel=0,
        vocab_size=64,
        settings=DraftSettings(
            row_entries=8, confidence_stop=0.0, prefill_chunk_tokens=16, context_tokens=256
        ),
        sampling=SamplingParameters(0.8),
        drafts=True,
    )
    stream.start(Opened(0, pack_token_ids([1, 2]), seed=7, acceptance_mode="rejection"))
    return stream


def verdict(position: int, own: list[int], window: int) -> Verdict:
    return Verdict(0, position, 0, pack_token_ids(own), window=window, draft_length=min(window, 4))


def test_a_window_before_the_base_of_the_next_path_is_refused() -> None:
    """After a lost window the next path begins one token later; until then nothing may be drafted.

    Found by fuzzing: the agent's own draft did not fit its path, and the drafting loop ended.
    """
    stream = rejection_stream()
    stream.commit_verdict(verdict(0, [5], window=8), now=0.0)
    stream.commit_verdict(verdict(1, [], window=0), now=0.1)
    with pytest.raises(RemoteProtocolError, match=r"^verdict grants a window at 1, before base 2$"):
        stream.commit_verdict(verdict(1, [], window=8), now=0.2)


def test_a_window_after_another_token_is_fine() -> None:
    stream = rejection_stream()
    stream.commit_verdict(verdict(0, [5], window=8), now=0.0)
    stream.commit_verdict(verdict(1, [], window=0), now=0.1)
    stream.commit_verdict(verdict(1, [6], window=8), now=0.2)
    assert 8 == stream.window
