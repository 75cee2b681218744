"""Rows of streams with a grammar: what it rules out gets the logit -inf before anything is drawn.

Rows without a grammar are not touched, and cost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from verifier.target.masked_check import (
    MOST_WAIT_SECONDS,
    MaskedCheck,
    begin_masks,
    masked_check,
)
from verifier.target.round import DraftCheck, ItemOutcome
from verifier.target.token_masks import PackedMasks, allowed_tokens

_BITS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True, slots=True)
class MaskedRows:
    """Logits to draw from, and for what."""

    logits: Tensor  # [num_rows, vocab_size]
    checks: list[DraftCheck]  # whose rows stand one after the other
    outcomes: list[ItemOutcome | None]  # of all checks; None: what is drawn for the next of those


def mask_rows(logits: Tensor, checks: Sequence[DraftCheck]) -> MaskedRows:
    """The rows [num_rows, vocab_size] of these checks, held to their grammars.

    Waits for masks, not for a GPU that makes the logits; these are overwritten.
    """
    if all(check.masks is None for check in checks):
        return MaskedRows(logits, list(checks), [None] * len(checks))
    begin_masks(checks)
    deadline = time.monotonic() + MOST_WAIT_SECONDS
    outcomes: list[ItemOutcome | None] = []
    kept: list[DraftCheck] = []
    kept_rows: list[int] = []
    spans: list[tuple[int, PackedMasks]] = []  # first row, masks
    start = 0
    for check in checks:
        masked = masked_check(check, deadline)
        if isinstance(masked, MaskedCheck):
            outcomes.append(None)
            kept.append(masked.check)
            if masked.masks is not None:
                spans.append((len(kept_rows), masked.masks))
            kept_rows.extend(range(start, start + masked.check.num_logit_rows))
        else:
            outcomes.append(masked)
        start += check.num_logit_rows
    if len(kept_rows) < start:
        logits = logits[torch.tensor(kept_rows, dtype=torch.int64, device=logits.device)]
    if spans:
        _strike_out(logits, spans)
    return MaskedRows(logits, kept, outcomes)


def _strike_out(logits: Tensor, spans: Sequence[tuple[int, PackedMasks]]) -> None:
    vocab_size = logits.shape[1]
    if logits.device.type == "cpu":
        for start, masks in spans:
            allowed = torch.from_numpy(allowed_tokens(masks, vocab_size))
            logits[start : start + len(masks)].masked_fill_(~allowed, -torch.inf)
        return
    rows = np.concatenate([np.arange(start, start + len(masks)) for start, masks in spans])
    packed = np.concatenate([masks for _, masks in spans]).astype("<u4", copy=False).view(np.uint8)
    on_device = torch.from_numpy(packed).pin_memory().to(logits.device, non_blocking=True)
    row_numbers = torch.from_numpy(rows).pin_memory().to(logits.device, non_blocking=True)
    bits = torch.tensor(_BITS, dtype=torch.uint8, device=logits.device)
    struck = (on_device[:, :, None] & bits == 0).view(len(rows), -1)[:, :vocab_size]
    logits[row_numbers] = logits[row_numbers].masked_fill(struck, -torch.inf)
