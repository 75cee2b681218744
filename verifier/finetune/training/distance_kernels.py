"""`distance` in two Triton kernels: logits are read twice and once, nothing else is in memory."""

from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from verifier.finetune.training.distance import Distances
from verifier.torch_target.kernels.launch import kernel

_BLOCK = 2048
_WARPS = 8
_FIELDS = 5


@kernel
def _distances(
    TARGET: tl.tensor,
    DRAFT: tl.tensor,
    OUT: tl.tensor,
    CHOICES: tl.tensor,
    num_rows: tl.tensor,
    vocab_size: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    p_top = tl.full([BLOCK], -1e30, tl.float32)
    q_top = tl.full([BLOCK], -1e30, tl.float32)
    p_sum = tl.zeros([BLOCK], tl.float32)
    q_sum = tl.zeros([BLOCK], tl.float32)
    p_at = tl.zeros([BLOCK], tl.int32)
    q_at = tl.zeros([BLOCK], tl.int32)
    for start in range(0, vocab_size, BLOCK):
        token = start + place
        is_there = token < vocab_size
        p = tl.load(TARGET + row * vocab_size + token, mask=is_there, other=-60000.0)
        q = tl.load(DRAFT + row * vocab_size + token, mask=is_there, other=-60000.0)
        p = p.to(tl.float32)
        q = q.to(tl.float32)
        # One exponential each, of the lower one: the higher one's is 1.
        lower = tl.exp(-tl.abs(p - p_top))
        p_sum = tl.where(p > p_top, p_sum * lower + 1.0, p_sum + lower)
        p_at = tl.where(p > p_top, token, p_at)
        p_top = tl.maximum(p_top, p)
        lower = tl.exp(-tl.abs(q - q_top))
        q_sum = tl.where(q > q_top, q_sum * lower + 1.0, q_sum + lower)
        q_at = tl.where(q > q_top, token, q_at)
        q_top = tl.maximum(q_top, q)
    p_highest = tl.max(p_top, 0)
    q_highest = tl.max(q_top, 0)
    p_norm = p_highest + tl.log(tl.sum(p_sum * tl.exp(p_top - p_highest), 0))
    q_norm = q_highest + tl.log(tl.sum(q_sum * tl.exp(q_top - q_highest), 0))
    p_choice = tl.min(tl.where(p_top == p_highest, p_at, vocab_size), 0)
    q_choice = tl.min(tl.where(q_top == q_highest, q_at, vocab_size), 0)
    overlap = tl.zeros([BLOCK], tl.float32)
    kl = tl.zeros([BLOCK], tl.float32)
    signed = tl.zeros([BLOCK], tl.float32)
    for start in range(0, vocab_size, BLOCK):
        token = start + place
        is_there = token < vocab_size
        p = tl.load(TARGET + row * vocab_size + token, mask=is_there, other=-60000.0)
        q = tl.load(DRAFT + row * vocab_size + token, mask=is_there, other=-60000.0)
        log_p = p.to(tl.float32) - p_norm
        log_q = q.to(tl.float32) - q_norm
        p = tl.exp(log_p)
        q = tl.exp(log_q)
        overlap += tl.minimum(p, q)
        kl += tl.where(is_there, p * (log_p - log_q), 0.0)
        signed += tl.where(q > p, q, -q)
    tl.store(OUT + row, p_norm)
    tl.store(OUT + num_rows + row, q_norm)
    tl.store(OUT + 2 * num_rows + row, tl.sum(overlap, 0))
    tl.store(OUT + 3 * num_rows + row, tl.sum(kl, 0))
    tl.store(OUT + 4 * num_rows + row, tl.sum(signed, 0))
    tl.store(CHOICES + row, p_choice)
    tl.store(CHOICES + num_rows + row, q_choice)


@kernel
def _gradient(
    TARGET: tl.tensor,
    DRAFT: tl.tensor,
    GRADIENT: tl.tensor,
    P_NORM: tl.tensor,
    Q_NORM: tl.tensor,
    SIGNED: tl.tensor,
    KL_WEIGHTS: tl.tensor,
    VARIATION_WEIGHTS: tl.tensor,
    vocab_size: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK)
    p_norm = tl.load(P_NORM + row)
    q_norm = tl.load(Q_NORM + row)
    signed = tl.load(SIGNED + row)
    kl_weight = tl.load(KL_WEIGHTS + row)
    variation_weight = tl.load(VARIATION_WEIGHTS + row)
    for start in range(0, vocab_size, BLOCK):
        token = start + place
        is_there = token < vocab_size
        p = tl.load(TARGET + row * vocab_size + token, mask=is_there, other=-60000.0)
        q = tl.load(DRAFT + row * vocab_size + token, mask=is_there, other=-60000.0)
        p = tl.exp(p.to(tl.float32) - p_norm)
        q = tl.exp(q.to(tl.float32) - q_norm)
        sign = tl.where(q > p, 1.0, -1.0)
        gradient = kl_weight * (q - p) + variation_weight * 0.5 * q * (sign - signed)
        at = GRADIENT + row * vocab_size + token
        tl.store(at, gradient.to(GRADIENT.dtype.element_ty), mask=is_there)


def distances_by_kernel(target_logits: Tensor, draft_logits: Tensor) -> Distances:
    """See `distance.distances`; both contiguous."""
    num_rows, vocab_size = draft_logits.shape
    device = draft_logits.device
    out = torch.empty(_FIELDS, num_rows, device=device, dtype=torch.float32)
    choices = torch.empty(2, num_rows, device=device, dtype=torch.int32)
    _distances[(num_rows,)](
        *(target_logits, draft_logits, out, choices, num_rows, vocab_size),
        BLOCK=_BLOCK,
        num_warps=_WARPS,
    )
    return Distances(*out.unbind(), *choices.unbind())


def logit_gradient_by_kernel_(
    target_logits: Tensor,
    draft_logits: Tensor,
    found: Distances,
    kl_weights: Tensor,
    variation_weights: Tensor,
) -> Tensor:
    """See `distance.logit_gradient_`."""
    num_rows, vocab_size = draft_logits.shape
    is_half = draft_logits.dtype == torch.float16
    gradient = draft_logits.view(torch.bfloat16) if is_half else draft_logits
    _gradient[(num_rows,)](
        *(target_logits, draft_logits, gradient),
        *(found.target_normaliser, found.draft_normaliser, found.signed_mass),
        *(kl_weights, variation_weights, vocab_size),
        BLOCK=_BLOCK,
        num_warps=_WARPS,
    )
    return gradient
