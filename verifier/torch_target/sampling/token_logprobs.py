"""The target's log-probabilities of what came out of its rows, for streams that ask.

Of the rows as the model made them. They are put aside before anything is done to them, and looked
at once it is known which tokens came out.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import msgspec
import torch
from torch import Tensor

from shared.protocol.logprobs import TokenLogprobs
from verifier.target.round import DraftCheck, ItemOutcome

# Rows of a vocabulary looked at together; see `logit_rows`.
_CHUNK_ROWS = 8


class KeptRows:
    """Copies of the rows of checks that ask for log-probabilities."""

    def __init__(self, logits: Tensor, checks: Sequence[DraftCheck]) -> None:
        """Copy rows of logits [num_rows, vocab_size], none where no check asks."""
        starts = accumulate((check.num_logit_rows for check in checks), initial=0)
        self._checks = checks
        self._rows = {
            i: logits[start : start + check.num_logit_rows].clone()
            for i, (check, start) in enumerate(zip(checks, starts, strict=False))
            if check.num_logprobs is not None
        }

    def told(self, outcomes: list[ItemOutcome]) -> list[ItemOutcome]:
        """The outcomes of all checks, those of these rows with their log-probabilities."""
        if not self._rows:
            return outcomes
        return [self._told(i, outcome) for i, outcome in enumerate(outcomes)]

    def _told(self, number: int, outcome: ItemOutcome) -> ItemOutcome:
        rows, check = self._rows.get(number), self._checks[number]
        if rows is None or check.num_logprobs is None or outcome.failure is not None:
            return outcome
        token_ids = [*check.draft_token_ids[: outcome.num_accepted]]
        if outcome.token_id is not None:
            token_ids.append(outcome.token_id)
        logprobs: list[TokenLogprobs] = []
        for start in range(0, len(token_ids), _CHUNK_ROWS):
            some = token_ids[start : start + _CHUNK_ROWS]
            logprobs += _logprobs(rows[start : start + len(some)], some, check.num_logprobs)
        return msgspec.structs.replace(outcome, logprobs=tuple(logprobs))


def _logprobs(rows: Tensor, token_ids: Sequence[int], num_others: int) -> list[TokenLogprobs]:
    logprobs = rows.to(torch.float32).log_softmax(1)
    index = torch.tensor(token_ids, device=rows.device)[:, None]
    own = logprobs.gather(1, index)[:, 0].tolist()
    values, ids = logprobs.topk(min(num_others, rows.shape[1]), dim=1)
    pairs = zip(ids.tolist(), values.tolist(), strict=True)
    return [
        TokenLogprobs(logprob, tuple(zip(*pair, strict=True)))
        for logprob, pair in zip(own, pairs, strict=True)
    ]
