"""One step of learning: what counts, and how much."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.models.distilled_drafts import TINY_SHAPE, TickingClock, write_chat_target
from verifier.finetune.llama.gguf_target import read_target
from verifier.finetune.llama.llama_model import LlamaModel
from verifier.finetune.llama.narrow_start import draft_llama_shape
from verifier.finetune.recipe.recipe import LossWeights, Recipe
from verifier.finetune.texts.writing import Question, WritingPlan, write_texts
from verifier.finetune.training.batches import make_batches
from verifier.finetune.training.student import Student
from verifier.finetune.training.target_logits import TargetLogits

PROMPTS = [(5, 17, 200), (3,), (44, 120, 7, 9, 30), (90, 91)]
PLAN = WritingPlan(
    num_slots=4,
    context_tokens=32,
    answer_tokens=12,
    num_steps=40,
    seconds=1000.0,
    dtype=torch.float32,
    end_ids=frozenset(),
)


@pytest.fixture
def target(tmp_path: Path) -> LlamaModel:
    return read_target(write_chat_target(tmp_path / "target.gguf"))


def embedding_after_a_step(target: LlamaModel, loss: LossWeights) -> torch.Tensor:
    """Of a draft that is the same each time, after one step over the same batch."""
    questions = [Question(index, 0.0) for index in range(len(PROMPTS))]
    texts = write_texts(
        *(target, PLAN, PROMPTS, ["some"] * len(PROMPTS), questions), clock=TickingClock()
    )
    batches = make_batches(texts, 64, 0)
    model = LlamaModel(draft_llama_shape(target.shape, TINY_SHAPE), seed=3)
    student = Student(model, Recipe(TINY_SHAPE), len(batches.groups), 64)
    student.adjust(1.0, loss)
    batch = batches.buckets[0]
    batch.draw()
    student.step(batch, TargetLogits(target, texts, batches.max_positions).fill(batch.state_rows))
    return model.embedding.detach().clone()


def test_utility_weighs_acceptance_and_leaves_distributions_alone(target: LlamaModel) -> None:
    alike = embedding_after_a_step(target, LossWeights(1.0, 0.0, 0.0))
    assert torch.equal(alike, embedding_after_a_step(target, LossWeights(1.0, 0.0, 1.0)))
    accepted = embedding_after_a_step(target, LossWeights(0.0, 1.0, 0.0))
    assert not torch.equal(accepted, embedding_after_a_step(target, LossWeights(0.0, 1.0, 1.0)))
