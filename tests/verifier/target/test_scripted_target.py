"""The scripted target answers as the reference does, and from its blocks alone."""

from __future__ import annotations

import numpy as np

from shared.speculation.probabilities import dense_probabilities
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.scripted_model import ScriptedModel
from shared.speculation.verification import verify_coupled
from verifier.target.round import DraftCheck, Round, RoundItem
from verifier.target.scripted_target import ScriptedTarget

MODEL = ScriptedModel(16, seed=3)
PROMPT = (5, 6, 7, 8, 9)


def greedy(tokens: list[int], num_tokens: int) -> list[int]:
    output: list[int] = []
    for _ in range(num_tokens):
        output.append(int(np.argmax(MODEL.logits([*tokens, *output]))))
    return output


def check(drafts: tuple[int, ...], sampling: SamplingParameters = GREEDY) -> DraftCheck:
    return DraftCheck(drafts, (), "coupled", sampling, seed=7, position=0, draws_bonus=True)


def item(tokens: tuple[int, ...], num_cached: int, draft_check: DraftCheck | None) -> RoundItem:
    return RoundItem(0, tokens, num_cached, block_table=(4, 1, 3), draft_check=draft_check)


def test_a_prompt_read_in_chunks_decides_as_one_read_at_once() -> None:
    target = ScriptedTarget(MODEL, num_blocks=8, block_tokens=4)
    first = target.run(Round((item(PROMPT[:3], 0, None),)))
    assert (None,) == first.items
    (outcome,) = target.run(Round((item(PROMPT[3:], 3, check(())),))).items
    assert outcome is not None
    assert greedy(list(PROMPT), 1) == [outcome.token_id]


def test_greedy_drafts_are_accepted_up_to_the_first_difference() -> None:
    target = ScriptedTarget(MODEL, num_blocks=8, block_tokens=4)
    right = greedy(list(PROMPT), 3)
    drafts = (right[0], right[1], (right[2] + 1) % 16)
    (outcome,) = target.run(Round((item(PROMPT + drafts, 0, check(drafts)),))).items
    assert outcome is not None
    assert (2, right[2]) == (outcome.num_accepted, outcome.token_id)


def test_sampled_drafts_meet_the_reference() -> None:
    target = ScriptedTarget(MODEL, num_blocks=8, block_tokens=4)
    sampling = SamplingParameters(temperature=0.8, top_p=0.9)
    drafts = (1, 2)
    (outcome,) = target.run(Round((item(PROMPT + drafts, 0, check(drafts, sampling)),))).items
    contexts = [PROMPT, (*PROMPT, 1), (*PROMPT, 1, 2)]
    probs = np.stack([dense_probabilities(MODEL.logits(c), sampling) for c in contexts])
    expected = verify_coupled(probs, drafts, seed=7, position=0)
    assert outcome is not None
    assert (expected.num_accepted, expected.token_id) == (outcome.num_accepted, outcome.token_id)


def test_a_wrong_block_table_gives_another_context() -> None:
    target = ScriptedTarget(MODEL, num_blocks=8, block_tokens=4)
    target.run(Round((item(PROMPT, 0, None),)))
    right = item((1,), 5, check(()))
    wrong = RoundItem(0, (1,), 5, block_table=(4, 0, 3), draft_check=check(()))
    target.run(Round((RoundItem(1, (2, 2, 2, 2), 0, (0,), None),)))
    outcomes = [target.run(Round((one,))).items[0] for one in (right, wrong)]
    assert greedy([*PROMPT, 1], 1) == [outcomes[0].token_id if outcomes[0] else None]
    assert outcomes[0] != outcomes[1]


def test_a_round_takes_the_time_that_it_is_told_to() -> None:
    asked_for: list[int] = []

    def delay_seconds(num_tokens: int) -> float:
        asked_for.append(num_tokens)
        return 0.002

    target = ScriptedTarget(MODEL, num_blocks=8, block_tokens=4, delay_seconds=delay_seconds)
    outcome = target.run(Round((item(PROMPT, 0, check(())),)))
    assert [5] == asked_for
    assert outcome.forward_seconds >= 0.002
