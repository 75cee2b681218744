"""What a board of a load test drafts: a scripted model's tokens, or guesses without any model.

This module must never wait: how long a board takes is the board's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from edge_agent.drafting.draw import draw_token
from edge_agent.drafting.draw_spec import DrawSpec, certain_token
from shared.protocol.draft_path import DraftToken
from shared.speculation.scripted_model import ScriptedModel

Guess = Callable[[Sequence[int], DrawSpec], DraftToken | None]
"""The draft token after the tokens of a slot, or None to stop there."""


def scripted_guess(model: ScriptedModel) -> Guess:
    """Draft with a scripted model; its `disagreement` with a scripted target sets acceptance."""

    def guess(tokens: Sequence[int], spec: DrawSpec) -> DraftToken | None:
        return draw_token(spec, model.logits(tokens))

    return guess


def echo_guess(random: Random) -> Guess:
    """Say a token of the text again: for a real target, where no board has a model.

    Few of these are accepted, so that nearly every draft ends its path: the heaviest load.
    """

    def guess(tokens: Sequence[int], spec: DrawSpec) -> DraftToken | None:
        return certain_token(random.choice(tokens), spec)

    return guess
