"""Many texts at once are the texts that each would be alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.models.distilled_drafts import TickingClock
from tests.support.models.tiny_gguf import END_ID, write_tiny_llama
from tests.verifier.finetune.llama.test_gguf_target import KIN
from verifier.finetune.llama.gguf_target import read_target
from verifier.finetune.llama.llama_model import LlamaModel, final_states
from verifier.finetune.texts.kept_texts import keep_texts, kept_texts
from verifier.finetune.texts.writing import (
    Question,
    WritingPlan,
    shuffled_questions,
    write_texts,
)
from verifier.finetune.texts.written_texts import WrittenTexts

PROMPTS = [(5, 17, 200), (3,), (44, 120, 7, 9, 30), (90, 91), (1, 2, 3, 4)]
PLAN = WritingPlan(
    num_slots=2,
    context_tokens=32,
    answer_tokens=9,
    num_steps=200,
    seconds=1000.0,
    dtype=torch.float32,
    end_ids=frozenset({END_ID}),
)


@pytest.fixture(scope="module", params=["llama", *KIN])
def model(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> LlamaModel:
    path = tmp_path_factory.mktemp("target") / "target.gguf"
    write_tiny_llama(path, architecture=request.param, edit=KIN.get(request.param))
    return read_target(path)


def written(model: LlamaModel, plan: WritingPlan = PLAN, temperature: float = 0.0) -> WrittenTexts:
    questions = [Question(index, temperature) for index in range(len(PROMPTS))]
    domains = ["some"] * len(PROMPTS)
    return write_texts(model, plan, PROMPTS, domains, questions, clock=TickingClock())


def states_of(model: LlamaModel, whole: list[int]) -> torch.Tensor:
    rotation = model.rotation(len(whole), torch.float32)
    ids = torch.tensor([whole])
    return final_states(model.shape, model.weights(torch.float32), rotation, ids)[0]


def test_greedy_texts_and_their_states_are_those_of_one_forward_pass(model: LlamaModel) -> None:
    texts = written(model)
    assert {0, 1, 2, 3, 4} == {place.prompt_index for place in texts.places}
    assert model.unembedding is not None
    for place in texts.places:
        prompt, answer = texts.prompts[place.prompt_index], texts.answer(place).tolist()
        assert 9 == len(answer) or END_ID == answer[-1]
        states = states_of(model, [*prompt, *answer])[len(prompt) - 1 : -1]
        torch.testing.assert_close(texts.states[texts.rows(place)], states, atol=2e-4, rtol=1e-3)
        assert answer == (states @ model.unembedding.T).argmax(-1).tolist()


def test_texts_that_time_cuts_off_are_kept_as_far_as_they_are(model: LlamaModel) -> None:
    plan = WritingPlan(2, 32, 30, 200, 3.0, torch.float32, frozenset({END_ID}))
    texts = written(model, plan)
    assert texts.places
    assert any(place.num_tokens < 30 for place in texts.places)


def test_steps_end_where_memory_does(model: LlamaModel) -> None:
    plan = WritingPlan(2, 32, 9, 12, 1000.0, torch.float32, frozenset({END_ID}))
    texts = written(model, plan)
    assert 0 < texts.num_tokens <= 24


def test_kept_texts_have_the_same_states_again(model: LlamaModel, tmp_path: Path) -> None:
    texts = written(model, temperature=1.0)
    keep_texts(texts, tmp_path / "texts")
    again = kept_texts(tmp_path / "texts", model, torch.float32)
    assert texts.prompts == again.prompts
    for before, after in zip(texts.places, again.places, strict=True):
        assert texts.answer(before).tolist() == again.answer(after).tolist()
        torch.testing.assert_close(
            *(texts.states[texts.rows(before)], again.states[again.rows(after)]),
            atol=2e-4,
            rtol=1e-3,
        )


def test_every_prompt_is_asked_once_a_pass_at_another_temperature() -> None:
    questions = shuffled_questions([3, 1, 2], (0.0, 1.0), num_passes=2, seed=0)
    assert [0, 1, 2] == sorted(question.prompt_index for question in questions[:3])
    by_prompt = {
        index: {q.temperature for q in questions if q.prompt_index == index} for index in range(3)
    }
    assert {0: {0.0, 1.0}, 1: {0.0, 1.0}, 2: {0.0, 1.0}} == by_prompt


def test_no_prompt_is_asked_for_the_same_greedy_answer_again() -> None:
    questions = shuffled_questions([3, 1, 2], (0.0, 0.8, 1.0), num_passes=9, seed=0)
    greedy = [question.prompt_index for question in questions if question.temperature == 0]
    assert [0, 1, 2] == sorted(greedy)
    assert 3 * 9 - 2 * 3 == len(questions)
