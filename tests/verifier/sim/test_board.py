"""A simulated board computes what the agent's streams want, also when verdicts overtake it."""

from __future__ import annotations

from random import Random

from shared.protocol.messages import Draft, Opened, Ready, Verdict
from shared.protocol.token_ids import pack_token_ids
from shared.speculation.sampling import SamplingParameters
from verifier.sim.acceptance import IndependentAcceptance
from verifier.sim.board import BoardSpec, SimBoard
from verifier.sim.clock import HeapClock
from verifier.sim.text import PROMPT_ID, StreamText

TOKEN_SECONDS = 0.01


def test_a_draw_ends_whose_window_a_verdict_took() -> None:
    """In `rejection` the path then begins one ahead of what is committed: behind the draw."""
    clock, sent = HeapClock(), list[Draft | Ready]()
    spec = BoardSpec(token_seconds=TOKEN_SECONDS, batch_growth=0.0, round_trip_seconds=0.0)
    board = SimBoard(clock, spec, sent.append)
    text = StreamText(1, IndependentAcceptance((0.5,), (), Random(1)))
    board.open(1, text, SamplingParameters(), drafts=True)
    board.receive(Opened(1, pack_token_ids((PROMPT_ID,)), 1, "rejection"))
    clock.run(5 * TOKEN_SECONDS)
    first, second = (pack_token_ids((text.target_token(i),)) for i in (0, 1))
    board.receive(Verdict(1, 0, 0, first, window=4, draft_length=4))
    clock.run(clock.now + 0.5 * TOKEN_SECONDS)  # it draws the token behind the first one
    board.receive(Verdict(1, 1, 0, second))
    clock.run(clock.now + 5 * TOKEN_SECONDS)
    assert not [message for message in sent if isinstance(message, Draft)]
