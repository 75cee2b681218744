"""A target without weights, for tests and load: exact, deterministic, as fast or slow as wanted.

Its cache holds token ids in blocks, so a wrong block table shows up as wrong text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from shared.protocol.logprobs import TokenLogprobs, pack_logprobs
from shared.speculation.probabilities import NotADistribution, dense_probabilities
from shared.speculation.processed_logits import processed
from shared.speculation.verification import Verification, verify_coupled, verify_rejection
from verifier.target.masked_check import (
    MOST_WAIT_SECONDS,
    MaskedCheck,
    begin_masks,
    masked_check,
)
from verifier.target.round import (
    DraftCheck,
    ItemFailure,
    ItemOutcome,
    PromptRows,
    Round,
    RoundItem,
    RoundOutcome,
    with_prompt,
)
from verifier.target.token_masks import allowed_tokens


class ScriptedLogits(Protocol):
    """A language model as a function; `shared.speculation.scripted_model.ScriptedModel` is one."""

    vocab_size: int

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits [vocab_size] of the token after `tokens`."""
        ...


class ScriptedTarget:
    """Implements `verifier.target.target.TargetModel` with the float64 reference of `shared`.

    `delay_seconds(num_tokens)` is slept in every round, to imitate a real target's time.
    """

    def __init__(
        self,
        model: ScriptedLogits,
        *,
        num_blocks: int = 4096,
        block_tokens: int = 16,
        context_tokens: int = 4096,
        delay_seconds: Callable[[int], float] = lambda num_tokens: 0.0,
    ) -> None:
        self.model_name = "scripted"
        self.vocab_size = model.vocab_size
        self.num_blocks = num_blocks
        self.block_tokens = block_tokens
        self.context_tokens = context_tokens
        self._model = model
        self._delay_seconds = delay_seconds
        self._cache = np.zeros(num_blocks * block_tokens, dtype=np.int64)

    def run(self, round_: Round) -> RoundOutcome:
        """Run one round; see `verifier.target.target.TargetModel.run`."""
        started_at = time.monotonic()
        begin_masks(item.draft_check for item in round_.items)
        delay = self._delay_seconds(round_.num_tokens)
        if delay > 0:
            time.sleep(delay)
        forwarded_at = time.monotonic()
        deadline = forwarded_at + MOST_WAIT_SECONDS
        items = tuple(self._run(item, deadline) for item in round_.items)
        return RoundOutcome(items, forwarded_at - started_at, time.monotonic() - forwarded_at)

    def _run(self, item: RoundItem, deadline: float) -> ItemOutcome | None:
        positions = np.arange(item.context_tokens)
        blocks = np.array(item.block_table)[positions // self.block_tokens]
        slots = blocks * self.block_tokens + positions % self.block_tokens
        self._cache[slots[item.num_cached_tokens :]] = item.token_ids
        checked = self._run_check(item.draft_check, slots, deadline) if item.draft_check else None
        if item.prompt_rows is None:
            return checked
        prompt_logprobs = self._prompt_logprobs(item, item.prompt_rows, self._cache[slots].tolist())
        return with_prompt(checked, prompt_logprobs)

    def _prompt_logprobs(self, item: RoundItem, asked: PromptRows, tokens: list[int]) -> bytes:
        first = item.num_cached_tokens + asked.first + 1
        scored = [
            token_logprobs(self._model.logits(tokens[:end]), token_id, asked.num_others)
            for end, token_id in enumerate(asked.next_ids, start=first)
        ]
        return pack_logprobs(scored, asked.num_others)

    def _run_check(
        self, check: DraftCheck, slots: NDArray[np.int64], deadline: float
    ) -> ItemOutcome:
        masked = masked_check(check, deadline)
        if isinstance(masked, ItemOutcome):
            return masked
        num_cut = len(check.draft_token_ids) - len(masked.check.draft_token_ids)
        try:
            verified = self._check(self._cache[slots[: len(slots) - num_cut]].tolist(), masked)
        except NotADistribution:
            return ItemOutcome(0, None, failure=ItemFailure.NON_FINITE_LOGITS)
        tokens = self._cache[slots].tolist()
        logprobs = self._logprobs(tokens, check, verified)
        return ItemOutcome(
            verified.num_accepted, verified.token_id, verified.accept_probs, logprobs=logprobs
        )

    def _logprobs(
        self, tokens: list[int], check: DraftCheck, verified: Verification
    ) -> tuple[TokenLogprobs, ...]:
        if check.num_logprobs is None:
            return ()
        start = len(tokens) - len(check.draft_token_ids)
        output_ids = [*check.draft_token_ids[: verified.num_accepted]]
        if verified.token_id is not None:
            output_ids.append(verified.token_id)
        rows = [self._model.logits(tokens[: start + i]) for i in range(len(output_ids))]
        return tuple(
            token_logprobs(row, token_id, check.num_logprobs)
            for row, token_id in zip(rows, output_ids, strict=True)
        )

    def _check(self, tokens: list[int], masked: MaskedCheck) -> Verification:
        check = masked.check
        num_drafted = len(check.draft_token_ids)
        num_prompt = len(tokens) - num_drafted - check.position
        ends = range(len(tokens) - num_drafted, len(tokens) + 1)
        logits = [self._model.logits(tokens[:end]) for end in ends]
        if masked.masks is not None:
            allowed = allowed_tokens(masked.masks, self.vocab_size)
            # A cut check has no mask for the row behind its drafts, which nothing is drawn from.
            struck = [np.where(*pair, -np.inf) for pair in zip(allowed, logits, strict=False)]
            logits = struck + logits[len(struck) :]
        logits = [
            _processed(row, tokens[:end], num_prompt, check)
            for row, end in zip(logits, ends, strict=True)
        ]
        probs = np.stack([dense_probabilities(row, check.sampling) for row in logits])
        if check.mode == "coupled":
            return verify_coupled(probs, check.draft_token_ids, check.seed, check.position)
        return verify_rejection(
            probs,
            check.draft_token_ids,
            check.rows,
            check.seed,
            check.position,
            draws_bonus=check.draws_bonus,
        )


def _processed(
    logits: NDArray[np.float32], tokens: Sequence[int], num_prompt: int, check: DraftCheck
) -> NDArray[np.float32]:
    """From the tokens themselves, so that miscounted ones show up as wrong text."""
    if check.processing is None:
        return logits
    return processed(
        logits,
        check.processing.processors,
        check.sampling,
        prompt_ids=tokens[:num_prompt],
        output_ids=tokens[num_prompt:],
        end_ids=check.processing.end_ids,
    )


def token_logprobs(logits: NDArray[np.float32], token_id: int, num_others: int) -> TokenLogprobs:
    """Of one token and the likeliest ones, in float64; ties go to the smaller id."""
    scores = logits.astype(np.float64)
    largest = scores.max()
    logprobs = scores - largest - np.log(np.exp(scores - largest).sum())
    likeliest = np.argsort(-logprobs, kind="stable")[:num_others].tolist()
    return TokenLogprobs(
        float(logprobs[token_id]), tuple((i, float(logprobs[i])) for i in likeliest)
    )
