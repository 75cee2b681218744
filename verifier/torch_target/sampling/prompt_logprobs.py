"""The target's log-probabilities of a prompt's own tokens, for streams that ask.

A few rows of the vocabulary at a time, in float32: however many a round has, no copy of all of them
is made. This module must never know which of its tokens a stream has heard of.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.protocol.logprobs import LEAST_LOGPROB
from verifier.target.round import ItemFailure, PromptRows, RoundItem

# Rows of a vocabulary looked at together; see `logit_rows`. Larger on a GPU, which is asked for
# the numbers of each such part: 32 rows of 151,936 ids take 19 MB there.
_CHUNK_ROWS, _GPU_CHUNK_ROWS = 8, 32


class ScoredPrompts(NamedTuple):
    """What became of the prompt rows of a round."""

    of_items: dict[int, bytes | ItemFailure]  # by the item's place in the round
    seconds: float


def score_prompts(logits: Tensor, items: Sequence[RoundItem]) -> ScoredPrompts:
    """Of logits [num_rows, vocab_size] that hold the prompt rows of these items, one by one.

    Waits for a GPU, where there are any.
    """
    started_at = time.perf_counter()
    of_items: dict[int, bytes | ItemFailure] = {}
    start = 0
    for number, item in enumerate(items):
        if item.prompt_rows is not None:
            end = start + len(item.prompt_rows.next_ids)
            of_items[number] = _packed(logits[start:end], item.prompt_rows)
            start = end
    return ScoredPrompts(of_items, time.perf_counter() - started_at if of_items else 0.0)


def _packed(logits: Tensor, asked: PromptRows) -> bytes | ItemFailure:
    num_rows = _CHUNK_ROWS if logits.device.type == "cpu" else _GPU_CHUNK_ROWS
    parts = []
    for start in range(0, len(logits), num_rows):
        rows = logits[start : start + num_rows].to(torch.float32)
        index = torch.tensor(asked.next_ids[start : start + num_rows], device=rows.device)
        # Of a row that is all -inf, or holds what is no number, it is no number itself.
        totals = rows.logsumexp(1, keepdim=True)
        own = rows.gather(1, index[:, None])
        top, top_ids = rows.topk(min(asked.num_others, rows.shape[1]), dim=1)
        if not bool(totals.isfinite().all()):
            return ItemFailure.NON_FINITE_LOGITS
        told = [scored.cpu().numpy() for scored in ((own - totals)[:, 0], top - totals)]
        parts.append(pack_logprob_rows(told[0], top_ids.cpu().numpy(), told[1], asked.num_others))
    return b"".join(parts)


def pack_logprob_rows(
    own: NDArray[np.float32], top_ids: NDArray[np.int64], top: NDArray[np.float32], num_others: int
) -> bytes:
    """`shared.protocol.logprobs.pack_logprobs` of tokens [n] that stand in arrays.

    Of their likeliest ones [n, at most num_others] there are fewer where a vocabulary has no more.
    """
    rows = np.zeros(len(own), _row_type(num_others))
    rows["own"] = np.maximum(own, LEAST_LOGPROB)
    num_known = top_ids.shape[1]
    rows["others"]["logprob"][:, num_known:] = np.nan  # a vocabulary has no more
    rows["others"]["token_id"][:, :num_known] = top_ids
    rows["others"]["logprob"][:, :num_known] = np.maximum(top, LEAST_LOGPROB)
    return rows.tobytes()


@lru_cache
def _row_type(num_others: int) -> np.dtype[np.void]:
    pair = np.dtype([("token_id", "<u4"), ("logprob", "<f4")])
    return np.dtype([("own", "<f4"), ("others", pair, (num_others,))])
