"""Log-probabilities are those of transformers' logits, whatever is done to the rows afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
import torch
from torch import Tensor

from shared.speculation.logit_processors import LogitProcessors
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.models.processed_rows import Written, processed_check
from tests.support.models.tiny_models import VOCAB_SIZE, tiny_llama
from verifier.target.round import DraftCheck, ItemFailure, ItemOutcome, Round, RoundItem
from verifier.torch_target.forward.block_cache import CacheShape
from verifier.torch_target.loading.placement import place_target
from verifier.torch_target.sampling.token_logprobs import KeptRows
from verifier.torch_target.sampling.verification import verify_rows

PROMPT = (5, 6, 7, 8)
# Two programs read the same prompt; see test_torch_target.
TOLERANCE = 2e-4


def check(drafts: tuple[int, ...], num_logprobs: int | None) -> DraftCheck:
    return DraftCheck(
        drafts, (), "coupled", GREEDY, 0, 0, draws_bonus=True, num_logprobs=num_logprobs
    )


def told_by_a_target(logits: Tensor, checks: Sequence[DraftCheck]) -> list[ItemOutcome]:
    """As a target does it, with rows that are spent afterwards."""
    kept = KeptRows(logits, checks)
    outcomes = verify_rows(logits, checks)
    logits.fill_(torch.nan)
    return kept.told(outcomes)


@pytest.mark.parametrize("num_logprobs", [0, 1, 20])
def test_they_are_transformers_log_softmax(num_logprobs: int) -> None:
    model = tiny_llama()
    read = list(PROMPT)
    with torch.inference_mode():
        first = int(model(torch.tensor([read])).logits[0, -1].argmax())
        expected = model(torch.tensor([[*read, first]])).logits[0, -2:].log_softmax(1)
    target = place_target(
        tiny_llama(),
        CacheShape(num_blocks=8, block_tokens=4, context_tokens=64),
        device=torch.device("cpu"),
        dtype=torch.float32,
        model_name="tiny",
    )
    item = RoundItem(0, (*PROMPT, first), 0, (0, 1), check((first,), num_logprobs))
    (outcome,) = target.run(Round((item,))).items
    assert outcome is not None
    assert outcome.num_accepted == 1
    assert outcome.token_id is not None
    assert 2 == len(outcome.logprobs)
    for row, token_id, told in zip(
        expected, (first, outcome.token_id), outcome.logprobs, strict=True
    ):
        assert told.logprob == pytest.approx(float(row[token_id]), abs=TOLERANCE)
        values, ids = row.topk(num_logprobs)
        assert ids.tolist() == [other for other, _ in told.top]
        assert values.tolist() == pytest.approx([one for _, one in told.top], abs=TOLERANCE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sampling", [GREEDY, SamplingParameters(0.3, 5, 0.8)])
def test_they_are_of_the_rows_before_anything_was_done_to_them(
    sampling: SamplingParameters, dtype: torch.dtype
) -> None:
    logits = torch.randn(3, 70, generator=torch.Generator().manual_seed(2)).to(dtype)
    expected = logits.float().log_softmax(1)
    asked = check((4, 5), 20)
    asked = msgspec.structs.replace(asked, sampling=sampling)
    processors = LogitProcessors(1.0, 1.0, 1.5, ((4, 100.0),), min_p=0.9, ignore_eos=True)
    asked = processed_check(asked, processors, Written((1, 2), ()))
    (outcome,) = told_by_a_target(logits, [asked])
    assert outcome.num_accepted == 1  # what no row would have come to by itself
    token_ids = [*asked.draft_token_ids[: outcome.num_accepted], outcome.token_id]
    assert len(token_ids) == len(outcome.logprobs)
    for row, token_id, told in zip(expected, token_ids, outcome.logprobs, strict=False):
        assert float(row[token_id]) == told.logprob
        assert [float(row[other]) for other, _ in told.top] == [one for _, one in told.top]
        assert row.topk(20).values.tolist() == [one for _, one in told.top]


def test_only_who_asks_is_told_and_a_broken_row_tells_nothing() -> None:
    logits = torch.zeros(3, VOCAB_SIZE)
    logits[2, 1] = torch.nan
    outcomes = told_by_a_target(logits, [check((), None), check((), 2), check((), 2)])
    assert [0, 1, 0] == [len(outcome.logprobs) for outcome in outcomes]
    assert ItemFailure.NON_FINITE_LOGITS == outcomes[2].failure
