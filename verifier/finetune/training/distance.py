"""How far a draft's distributions are from the target's, row by row, and which way to go.

With p the target's and q the draft's probabilities, acceptance = Σ min(p, q) = 1 − TV (Leviathan et
al. 2023, corollary 3.6), KL = Σ p·log(p/q). The gradient with respect to the draft's logits is
KL: q − p; TV: q/2·(sign(q − p) − Σ q·sign(q − p)).

The reference is here; on a GPU `distance_kernels` does the same without probabilities in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Distances:
    """Of each row, float32 [num_rows], and the likeliest tokens, int32 [num_rows]."""

    target_normaliser: Tensor  # log Σ exp of the target's logits
    draft_normaliser: Tensor
    acceptance: Tensor
    kl: Tensor
    signed_mass: Tensor  # Σ q·sign(q − p)
    target_choice: Tensor
    draft_choice: Tensor


def distances(target_logits: Tensor, draft_logits: Tensor) -> Distances:
    """Of logits [num_rows, vocab_size], float16 on a GPU."""
    if draft_logits.is_cuda:
        from verifier.finetune.training.distance_kernels import distances_by_kernel

        return distances_by_kernel(target_logits, draft_logits)
    return distances_by_torch(target_logits, draft_logits)


def logit_gradient_(
    target_logits: Tensor,
    draft_logits: Tensor,
    found: Distances,
    kl_weights: Tensor,
    variation_weights: Tensor,
) -> Tensor:
    """The gradient of Σ rows (kl_weight·KL + variation_weight·TV), over the draft's logits.

    On a GPU it lies where the draft's float16 logits were, as bfloat16, and these are gone.
    """
    if draft_logits.is_cuda:
        from verifier.finetune.training.distance_kernels import logit_gradient_by_kernel_

        return logit_gradient_by_kernel_(
            *(target_logits, draft_logits, found, kl_weights, variation_weights)
        )
    return logit_gradient_by_torch(
        *(target_logits, draft_logits, found, kl_weights, variation_weights)
    )


def distances_by_torch(target_logits: Tensor, draft_logits: Tensor) -> Distances:
    """The reference."""
    target, draft = target_logits.float(), draft_logits.float()
    log_p, log_q = target.log_softmax(-1), draft.log_softmax(-1)
    p, q = log_p.exp(), log_q.exp()
    return Distances(
        target_normaliser=target.logsumexp(-1),
        draft_normaliser=draft.logsumexp(-1),
        acceptance=torch.minimum(p, q).sum(-1),
        kl=(p * (log_p - log_q)).sum(-1),
        signed_mass=torch.where(q > p, q, -q).sum(-1),
        target_choice=target.argmax(-1).int(),
        draft_choice=draft.argmax(-1).int(),
    )


def logit_gradient_by_torch(
    target_logits: Tensor,
    draft_logits: Tensor,
    found: Distances,
    kl_weights: Tensor,
    variation_weights: Tensor,
) -> Tensor:
    """The reference, float32 [num_rows, vocab_size]."""
    p = (target_logits.float() - found.target_normaliser[:, None]).exp()
    q = (draft_logits.float() - found.draft_normaliser[:, None]).exp()
    sign = torch.where(q > p, 1.0, -1.0)
    variation = 0.5 * q * (sign - found.signed_mass[:, None])
    return kl_weights[:, None] * (q - p) + variation_weights[:, None] * variation
