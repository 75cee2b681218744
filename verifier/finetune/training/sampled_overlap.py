"""How likely a draft token is to be accepted where requests sample with top-p, by torch.

As `edge_agent.judging.overlap` computes it of a draft's file: the draft's row is cut to what boards
send, both rows to top-p, and acceptance is Σ min of both. It must never draw.
"""

from __future__ import annotations

import torch
from torch import Tensor

COOL_TEMPERATURE, COOL_TOP_P = 0.8, 0.95
_ROW_ENTRIES = 32  # as many as boards send (draft.row_entries)
# A target's row that top-p leaves longer is cut there, as held-out texts are.
_MAX_ENTRIES = 768


def cool_acceptance(target_logits: Tensor, draft_logits: Tensor) -> Tensor:
    """At temperature 0.8 with top-p 0.95, of logits [num_rows, vocab_size] each [num_rows]."""
    target_ids, target_probs = _cut(target_logits, _MAX_ENTRIES, of_all=True)
    draft_ids, draft_probs = _cut(draft_logits, _ROW_ENTRIES, of_all=False)
    dense = torch.zeros(target_logits.shape, device=target_logits.device)
    dense.scatter_(1, target_ids, target_probs)
    return torch.minimum(dense.gather(1, draft_ids), draft_probs).sum(1)


def _cut(logits: Tensor, num_entries: int, *, of_all: bool) -> tuple[Tensor, Tensor]:
    """Ids and probabilities, the likeliest first; zero behind top-p.

    `of_all`: top-p counts the mass of the whole row, otherwise that of the entries.
    """
    cooled = logits.float() / COOL_TEMPERATURE
    highest, token_ids = cooled.topk(min(num_entries, cooled.shape[1]), 1)
    whole = cooled if of_all else highest
    probs = (highest - whole.logsumexp(1, keepdim=True)).exp()
    kept = probs * (probs.cumsum(1) - probs < COOL_TOP_P)
    return token_ids, kept / kept.sum(1, keepdim=True)
