"""A draft that learns: one step over a batch, all of it on the device and without a wait.

The loss is kl·KL(target‖draft) of all positions alike, and variation·TV weighted by what a position
is worth. It must never read a number back while it steps: a step is one CUDA graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verifier.finetune.llama.block_rounding import straight_through
from verifier.finetune.llama.compiled import compiled
from verifier.finetune.llama.llama_model import (
    MATRICES,
    LlamaModel,
    LlamaWeights,
    final_states,
    merged,
    run_layer,
)
from verifier.finetune.recipe.recipe import LossWeights, Recipe
from verifier.finetune.training.batches import WIDTH_STEP, Bucket
from verifier.finetune.training.distance import Distances, distances, logit_gradient_
from verifier.finetune.training.muon import Muon
from verifier.finetune.training.trained_weights import trained_weights
from verifier.finetune.training.utility import expected_round_tokens, utility_weights

_KEPT = 0.98  # of running means, a step
_GOODPUT_KEPT = 0.99
_FIRST_GOODPUT = 2.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Running means over what was learned last; training texts, not held-out ones."""

    kl: float
    acceptance: float  # at temperature 1
    same_choice: float


class Student:
    """The draft with its optimisers; `kind` is the rounding in the loop, None for none."""

    def __init__(self, model: LlamaModel, recipe: Recipe, num_groups: int, context: int) -> None:
        device = model.last_norm.device
        is_on_gpu = device.type == "cuda"
        self.model, self._recipe = model, recipe
        self.kind: str | None = None
        self._dtype = torch.bfloat16 if is_on_gpu else torch.float32
        self._logit_dtype = torch.float16 if is_on_gpu else torch.float32
        widest = -(-context // WIDTH_STEP) * WIDTH_STEP
        self._rotation = model.rotation(widest, self._dtype)
        # Of a narrow model norms, rotations and casts take longer than products: compiled they are
        # few kernels, made once for each width of batches.
        self._run_layer = compiled(run_layer) if is_on_gpu else run_layer
        self._weights = trained_weights(model, recipe.lora_rank)
        self._muon = Muon(self._weights.by_muon) if self._weights.by_muon else None
        self._rates = [getattr(recipe, rate) for rate, _ in self._weights.by_adam]
        self._adam = torch.optim.AdamW(
            [{"params": weights} for _, weights in self._weights.by_adam],
            lr=torch.zeros((), device=device),
            betas=(0.9, 0.95),
            weight_decay=0.0,
            fused=True,
            capturable=is_on_gpu,
        )
        # What a graph reads: rates and weights of the loss. Whether utility weighs stands in it.
        self._weighs_utility = False
        self._loss = torch.tensor([1.0, 0.0, 0.0], device=device)
        self._goodput = torch.full((num_groups,), _FIRST_GOODPUT, device=device)
        self._means = torch.zeros(3, device=device)

    def adjust(self, rate: float, loss: LossWeights) -> None:
        """Rates, as a part of the recipe's, and the loss of the next steps.

        Where utility begins to weigh, graphs must be captured anew.
        """
        self._weighs_utility = loss.utility > 0
        if self._muon is not None:
            self._muon.rate.fill_(self._recipe.matrix_rate * rate)
        for group, full_rate in zip(self._adam.param_groups, self._rates, strict=True):
            group["lr"].fill_(full_rate * rate)
        self._loss.copy_(torch.tensor([loss.kl, loss.total_variation, loss.utility]))

    def step(self, batch: Bucket, target_logits: Tensor) -> None:
        """Learn one batch; `target_logits` [positions, vocab_size]."""
        self.forget_gradients()
        weights = self.rounded_weights(self.kind, self._dtype)
        shape, ids = self.model.shape, batch.token_ids
        states = final_states(shape, weights, self._rotation, ids, run=self._run_layer)
        states = states.view(-1, states.shape[-1]).index_select(0, batch.flat)
        state_gradient, logit_gradient = self._head(batch, target_logits, states, weights)
        states.backward(state_gradient)  # type: ignore[no-untyped-call]
        self._add_gradient_of_output(logit_gradient, states)
        self._adam.step()
        if self._muon is not None:
            self._muon.step()

    def forget_gradients(self) -> None:
        """Before a step, and before one is captured."""
        for group in self._adam.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
        for parameter in self._weights.by_muon:
            parameter.grad = None

    def rounded_weights(self, kind: str | None, dtype: torch.dtype) -> LlamaWeights:
        """Weights as a file of this kind will hold them; None: as they are.

        The embedding is in float32: what reads it adds gradients up there.
        """
        model = self.model
        matrices = {
            name: straight_through(self._weights.matrix(name), kind).to(dtype) for name in MATRICES
        }
        embedding = straight_through(model.embedding, kind)
        own = model.unembedding
        output = embedding if own is None else straight_through(own, kind)
        return merged(model, matrices, dtype, embedding, output.detach())

    def merge(self) -> None:
        """Put all that was learned into the model's own weights."""
        self._weights.merge()

    def progress(self) -> Progress:
        """Waits for the device."""
        return Progress(*self._means.tolist())

    def state(self) -> dict[str, object]:
        """All that going on needs, as tensors."""
        return {
            "model": dict(self._weights.state()),
            "adam": self._adam.state_dict(),
            "momentum": [] if self._muon is None else self._muon.momentum,
            "goodput": self._goodput,
        }

    def restore(self, state: dict[str, object]) -> None:
        """Go on from what `state` once was, perhaps on another device."""
        device = self._means.device
        self._weights.restore(state["model"])  # type: ignore[arg-type]
        self._adam.load_state_dict(state["adam"])  # type: ignore[arg-type]
        for group in self._adam.param_groups:
            group["lr"] = torch.zeros((), device=device)
        own = [] if self._muon is None else self._muon.momentum
        for momentum, kept in zip(own, state["momentum"], strict=True):  # type: ignore[call-overload]
            momentum.copy_(kept)
        self._goodput.copy_(state["goodput"])  # type: ignore[arg-type]

    @torch.no_grad()
    def _head(
        self, batch: Bucket, target_logits: Tensor, states: Tensor, weights: LlamaWeights
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the loss with respect to final states and logits."""
        unembedding = weights.unembedding.to(self._logit_dtype)
        logits = states.to(self._logit_dtype) @ unembedding.T
        found = distances(target_logits, logits)
        worth = self._worth_of_positions(batch, found.acceptance)
        alike = batch.counts / batch.counts.sum()
        kl, variation, _ = self._loss
        # Utility is a matter of acceptance; where drafts are seldom accepted, KL still teaches.
        gradient = logit_gradient_(target_logits, logits, found, kl * alike, variation * worth)
        self._note(batch, found)
        state_gradient = gradient @ weights.unembedding.to(gradient.dtype)
        return state_gradient.to(states.dtype), gradient

    @torch.no_grad()
    def _add_gradient_of_output(self, logit_gradient: Tensor, states: Tensor) -> None:
        """To what makes logits of states: a tied embedding has another part of its gradient."""
        own = self.model.unembedding
        output = self.model.embedding if own is None else own
        if not output.requires_grad:
            return
        gradient = (logit_gradient.T @ states.to(logit_gradient.dtype)).float()
        output.grad = gradient if output.grad is None else output.grad.add_(gradient)

    def _worth_of_positions(self, batch: Bucket, acceptance: Tensor) -> Tensor:
        """Summing up to 1; utility counts as much as the loss says."""
        counts = batch.counts
        if not self._weighs_utility:
            return counts / counts.sum()
        worth = utility_weights(acceptance, batch.text) / self._goodput[batch.group] * counts
        worth = worth * (counts.sum() / worth.sum())
        utility = self._loss[2]
        return (utility * worth + (1 - utility) * counts) / counts.sum()

    def _note(self, batch: Bucket, found: Distances) -> None:
        counts = batch.counts
        if self._weighs_utility:
            self._note_goodput(batch, found.acceptance)
        same = (found.target_choice == found.draft_choice).float()
        rows = torch.stack([found.kl, found.acceptance, same])
        now = (rows * counts).sum(1) / counts.sum()
        kept = self._means * _KEPT + now * (1 - _KEPT)
        self._means.copy_(torch.where(self._means == 0, now, kept))

    def _note_goodput(self, batch: Bucket, acceptance: Tensor) -> None:
        counts, groups = batch.counts, batch.group
        tokens = expected_round_tokens(acceptance, batch.text) * counts
        zeros = torch.zeros_like(self._goodput)
        number, total = zeros.index_add(0, groups, counts), zeros.index_add(0, groups, tokens)
        mean = total / number.clamp_min(1)
        kept = self._goodput * _GOODPUT_KEPT + mean * (1 - _GOODPUT_KEPT)
        self._goodput.copy_(torch.where(number > 0, kept, self._goodput))
