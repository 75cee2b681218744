"""A draft model over held-out texts, token by token as streams go: what is accepted, how fast."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import numpy as np

from edge_agent.draft_model.drafter import Drafter, Forward
from edge_agent.drafting.draw import draw_token
from edge_agent.drafting.draw_spec import DrawSpec
from edge_agent.judging.overlap import RULES_OF_MODE, Rule, acceptances, rounds_of
from shared.errors import ModelError
from shared.protocol.held_out_texts import HeldOutText, HeldOutTexts
from shared.speculation.sampling import SamplingParameters

DRAFT_LENGTHS = (4, 8)  # of the rounds whose tokens are told


class Accepted(msgspec.Struct, frozen=True):
    """By one rule, in the texts of one domain."""

    rate: float  # mean over positions
    round_tokens: tuple[float, ...]  # of rounds with drafts of `DRAFT_LENGTHS`
    num_positions: int


class Judgement(msgspec.Struct, frozen=True):
    """Of one draft."""

    accepted: Mapping[Rule, Mapping[str, Accepted]]  # by domain
    tokens_per_second: float  # one after the other, forward passes alone
    drawn_per_second: float  # with draws at temperature 0.8, top-p 0.95, `coupled`
    prompt_tokens_per_second: float

    def mean(self, rule: Rule) -> Accepted:
        """Of the domains, each of which counts the same."""
        found = self.accepted[rule].values()
        lengths = zip(*(one.round_tokens for one in found), strict=True)
        return Accepted(
            float(np.mean([one.rate for one in found])),
            tuple(float(np.mean(tokens)) for tokens in lengths),
            sum(one.num_positions for one in found),
        )


def chosen_texts(texts: HeldOutTexts, per_domain: int) -> list[HeldOutText]:
    """The first ones of each domain and mode."""
    seen: dict[tuple[str, str], int] = defaultdict(int)
    chosen = []
    for text in texts.texts:
        kind = (text.domain, text.mode)
        seen[kind] += 1
        if seen[kind] <= per_domain:
            chosen.append(text)
    return chosen


def judge(
    drafter: Drafter,
    texts: Sequence[HeldOutText],
    vocab_size: int,
    advance: Callable[[int], None] = lambda number: None,
    now: Callable[[], float] = time.monotonic,
) -> Judgement:
    """Let the draft go along all texts; `advance` gets how many are done.

    Raises:
        ModelError: the draft's vocabulary is smaller than the target's.
    """
    if drafter.vocab_size < vocab_size:
        raise ModelError(
            f"{drafter.model_name} has {drafter.vocab_size} tokens, and the target {vocab_size}"
        )
    course = _Course(drafter, vocab_size, now)
    found: dict[tuple[Rule, str], list[np.ndarray]] = defaultdict(list)
    for number, text in enumerate(texts, start=1):
        rates = course.along(text)
        for rule, column in zip(RULES_OF_MODE[text.mode], rates.T, strict=True):
            found[rule, text.domain].append(column)
        advance(number)
    accepted: dict[Rule, dict[str, Accepted]] = defaultdict(dict)
    for (rule, domain), columns in found.items():
        accepted[rule][domain] = _accepted(columns)
    return Judgement(
        accepted,
        course.num_tokens / course.forward_seconds,
        course.drawn_per_second,
        course.num_prompt_tokens / course.prompt_seconds,
    )


class _Course:
    """The draft in one slot, and the time that it took."""

    def __init__(self, drafter: Drafter, vocab_size: int, now: Callable[[], float]) -> None:
        self._drafter, self._vocab_size, self._now = drafter, vocab_size, now
        self.forward_seconds = self.prompt_seconds = self._draw_seconds = 0.0
        self.num_tokens = self.num_prompt_tokens = self._num_draws = 0

    @property
    def drawn_per_second(self) -> float:
        """Tokens that were drafted and drawn."""
        a_draw = self._draw_seconds / self._num_draws if self._num_draws else 0.0
        return 1.0 / (self.forward_seconds / self.num_tokens + a_draw)

    def along(self, text: HeldOutText) -> np.ndarray:
        """Acceptance at each position, by each rule [num_tokens, num_rules]."""
        self._drafter.truncate(0, 0)
        prompt = text.prompt_ids[-(self._drafter.context_tokens - len(text.token_ids)) :]
        logits, seconds = self._forward(prompt)
        self.prompt_seconds += seconds
        self.num_prompt_tokens += len(prompt)
        found = []
        for position, token_id in enumerate(text.token_ids):
            found.append(acceptances(text, position, logits))
            if text.mode == "0.8":
                self._draw(logits, position)
            if position + 1 < len(text.token_ids):
                logits, seconds = self._forward((token_id,))
                self.forward_seconds += seconds
                self.num_tokens += 1
        return np.array(found)

    def _forward(self, token_ids: tuple[int, ...]) -> tuple[np.ndarray, float]:
        began = self._now()
        (logits,) = self._drafter.forward([Forward(0, token_ids)])
        assert logits is not None
        return logits[: self._vocab_size], self._now() - began

    def _draw(self, logits: np.ndarray, position: int) -> None:
        spec = DrawSpec(
            mode="coupled",
            sampling=SamplingParameters(temperature=0.8, top_p=0.95),
            seed=1,
            position=position,
            vocab_size=self._vocab_size,
            is_guess=False,
            row_entries=0,
            confidence_stop=0.0,
        )
        began = self._now()
        draw_token(spec, logits)
        self._draw_seconds += self._now() - began
        self._num_draws += 1


def _accepted(columns: Iterable[np.ndarray]) -> Accepted:
    columns = list(columns)
    rates = np.concatenate(columns)
    tokens = []
    for length in DRAFT_LENGTHS:
        num_rounds, num_tokens = np.sum([rounds_of(column, length) for column in columns], axis=0)
        tokens.append(float(num_tokens / num_rounds) if num_rounds else float("nan"))
    return Accepted(float(rates.mean()), tuple(tokens), len(rates))
