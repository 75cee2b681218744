"""Whether what the n-grams of a text suggest is drafted, or the draft model is asked.

A token that is looked up takes no time, but a wrong one kills all that is drafted behind it. So
both drafters are measured by how long the match is: what the index suggests is compared with every
token that is committed, drafted or not; the model's tokens with what was committed in their place.
Pure; this module must never know what a token is drafted for or when it is sent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from edge_agent.drafting.ngram_index import MAX_INDEXED_TOKENS, Match, NgramIndex
from edge_agent.drafting.settings import LONGEST_NGRAM
from edge_agent.drafting.survival_rates import SurvivalRates
from shared.speculation.tokens_per_round import tokens_per_round

# Indexed at once: 5 ms of the event loop on a PC's core (2026-11), several times that on a board.
READ_TOKENS = 4096
# By matched tokens, more than the last as the last: SmolLM2-135M, 20 prompts of five domains.
_NGRAM_RATES = (0.0, 0.17, 0.4, 0.57, 0.75)
_MODEL_RATE = 0.8
_HIGHEST_RATE = 0.99
# A draft that is less likely than this to survive up to here is not worth its bytes, and each of
# its tokens lengthens the verifier's round.
SMALLEST_SURVIVAL = 0.2


class DrafterRates(msgspec.Struct, frozen=True):
    """What both drafters are worth, by matched tokens."""

    ngram: SurvivalRates
    model: SurvivalRates

    def branch(self) -> DrafterRates:
        """Rates of a new stream that start from these."""
        return DrafterRates(self.ngram.branch(), self.model.branch())


def drafter_rates() -> DrafterRates:
    """Rates of a device that has drafted nothing yet."""
    rates_of_longer = [_NGRAM_RATES[-1]] * (LONGEST_NGRAM + 1 - len(_NGRAM_RATES))
    ngram = SurvivalRates([*_NGRAM_RATES, *rates_of_longer])
    return DrafterRates(ngram, SurvivalRates([_MODEL_RATE] * (LONGEST_NGRAM + 1)))


def looking_up_pays(
    ngram_rate: float, model_rate: float, room: int, model_tokens: float = math.inf
) -> bool:
    """Whether the token that was looked up should stand here, not the model's.

    The model draws `model_tokens` in the time of one round, and `room` tokens are wanted. With its
    rate m, k of its tokens in a row are worth µ(k) - 1 = m + m² + … + m^k tokens of output; behind
    a token looked up, of rate n, the same time of the model is worth n µ(k'): k' is k - 1 where the
    room ends the draft, and k where time does. In the first case that asks for n > m, in the second
    for less, and for next to nothing of a model that is still reading (k = 0).
    """
    model_tokens_instead = tokens_per_round(model_rate, max(min(model_tokens, room), 0.0)) - 1.0
    tokens_behind = tokens_per_round(model_rate, max(min(model_tokens, room - 1), 0.0))
    return ngram_rate * tokens_behind > model_tokens_instead


class DrafterChoice:
    """One stream's n-grams, the rates of both drafters, and where its draft tokens come from.

    With `ngram_tokens` 0 it is off and costs nothing.
    """

    __slots__ = ("_drafted", "_index", "_ngram_tokens", "_unread", "is_on", "rates")

    def __init__(self, ngram_tokens: int, rates: DrafterRates | None = None) -> None:
        assert ngram_tokens <= LONGEST_NGRAM, f"n-grams of {ngram_tokens} tokens"
        self.rates = rates or drafter_rates()
        self._ngram_tokens = ngram_tokens
        self.is_on = ngram_tokens > 0
        """Whether anything is ever suggested."""
        self._index = NgramIndex(ngram_tokens)
        self._unread: list[int] = []  # the end of a long prompt, and what was committed behind it
        self._drafted: dict[int, _Origin] = {}  # by output position

    def read(self, prompt_ids: Sequence[int]) -> None:
        """Index the tokens that stand above the output, those of a long prompt as time goes by."""
        if not self.is_on:
            return
        self._unread = list(prompt_ids[-MAX_INDEXED_TOKENS:])
        self._read_on()

    def commit(self, position: int, token_ids: Sequence[int], drafted: Sequence[int]) -> None:
        """Learn from tokens committed at `position`, where `drafted` had been drafted."""
        if not self.is_on:
            return
        if self._unread:
            self._unread += token_ids
            self.forget_from(position)
            self._read_on()
            return
        is_alive = True
        for i, token_id in enumerate(token_ids):
            match = self._index.find()
            matched = match.length if match is not None else 0
            if match is not None:
                self.rates.ngram.observe(matched, survived=match.token_id == token_id)
            origin = self._drafted.pop(position + i, None)
            if is_alive and i < len(drafted) and origin is not None:
                is_alive = drafted[i] == token_id
                if origin.is_model:
                    self.rates.model.observe(matched, survived=is_alive)
            self._index.extend((token_id,))

    def suggest(self, drafted: Sequence[int], room: int, model_tokens: float) -> Match | None:
        """What gives the token to draft after `drafted`, or None to ask the model.

        `room` and `model_tokens` are as in `looking_up_pays`.
        """
        self._read_on()
        match = self._find(drafted) if self.is_on else None
        if match is None:
            return None
        ngram_rate = self.rates.ngram.rate(match.length)
        if ngram_rate * self._survival() < SMALLEST_SURVIVAL:
            return None
        # A model that is not asked shows nothing: a few bad tokens must not shut it out.
        model_rate = min(self.rates.model.highest_rate(match.length), _HIGHEST_RATE)
        if not looking_up_pays(ngram_rate, model_rate, room, model_tokens):
            return None
        return match

    def record_draft(self, position: int, drafted: Sequence[int], *, is_model: bool) -> None:
        """A token was drafted at an output position, behind `drafted`; by which drafter."""
        if not self.is_on:
            return
        match = self._find(drafted)
        rates = self.rates.model if is_model else self.rates.ngram
        rate = rates.rate(match.length if match is not None else 0)
        self._drafted[position] = _Origin(is_model, rate)

    def forget_from(self, position: int) -> None:
        """Draft tokens from an output position on are gone."""
        self._drafted = {at: origin for at, origin in self._drafted.items() if at < position}

    def _read_on(self) -> None:
        if self._unread:
            self._index.extend(self._unread[:READ_TOKENS])
            del self._unread[:READ_TOKENS]

    def _find(self, drafted: Sequence[int]) -> Match | None:
        """What followed the end of all text; None as long as that is not read."""
        return None if self._unread else self._index.find(drafted[-self._ngram_tokens :])

    def _survival(self) -> float:
        """The chance that all that is drafted survives."""
        return math.prod(origin.rate for origin in self._drafted.values())


class _Origin(msgspec.Struct, frozen=True):
    """Which drafter a token is from, and its chance to survive as believed then."""

    is_model: bool
    rate: float
