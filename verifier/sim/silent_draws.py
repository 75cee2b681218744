"""How many draws of a simulated board's stream leave nothing to send: they are played at one go.

A forecast of what `edge_agent.drafting.stream` does, which a test holds to it; with n-grams, rows
or more than one token to read the stream is asked after each draw. This module must never change a
stream.
"""

from __future__ import annotations

from edge_agent.drafting.board_state import Readiness
from edge_agent.drafting.pending_draft import COUPLED_DRAFT_TOKENS
from edge_agent.drafting.step import DraftStep
from edge_agent.drafting.stream import AgentStream


def num_silent_draws(stream: AgentStream, step: DraftStep, seconds: float, now: float) -> int:
    """Draws from this step on, begun now and each so long, that send nothing, but for a doubt."""
    if len(step.token_ids) != 1 or stream.mode == "rejection":
        return 0
    if stream.drafter_choice.is_on or stream.changes.is_any:
        return 0
    if stream.state.readiness is not Readiness.READY:
        return 0  # it may be said behind any draw
    num_unsent = len(stream.unsent.tokens)
    room = stream.window - len(stream.path.live) - num_unsent
    num_short = (stream.draft_length or COUPLED_DRAFT_TOKENS) - num_unsent
    most = min(room, num_short, stream.settings.context_tokens - stream.num_tokens) - 1
    return max(most, 0) if stream.draft_length else stream.pace.draws_in_time(most, seconds, now)
