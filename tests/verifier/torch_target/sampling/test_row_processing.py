"""Rows are processed as the reference processes each, bit for bit, and no other row is touched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.speculation.logit_processors import LogitProcessors
from shared.speculation.processed_logits import processed
from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.models.processed_rows import (
    END_IDS,
    Written,
    legal_processors,
    processed_check,
)
from verifier.target.round import DraftCheck
from verifier.torch_target.sampling.row_processing import process_rows
from verifier.torch_target.sampling.verification import verify_rows

samplings = st.sampled_from([GREEDY, SamplingParameters(0.7), SamplingParameters(1.5, 0, 0.9)])
few_ids = st.lists(st.integers(0, 7), max_size=6)
Item = tuple[LogitProcessors, SamplingParameters, list[int], list[int], list[int], bool]
items = st.tuples(legal_processors, samplings, few_ids, few_ids, few_ids, st.booleans())


def coupled(drafts: list[int], sampling: SamplingParameters) -> DraftCheck:
    return DraftCheck(tuple(drafts), (), "coupled", sampling, seed=1, position=0, draws_bonus=True)


def cut(drafts: list[int], sampling: SamplingParameters) -> DraftCheck:
    """One without a row behind its last draft."""
    return DraftCheck(tuple(drafts), (), "rejection", sampling, 1, position=0, draws_bonus=False)


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where the rows are; on a GPU as `gpu_verification` sends what is done to them."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return torch.device(request.param)


def test_every_row_of_a_round_is_the_references_to_the_last_bit(device: torch.device) -> None:
    @settings(deadline=None, max_examples=150)
    @given(st.lists(items, min_size=1, max_size=5), st.integers(0, 2**32))
    def check(some: list[Item], number: int) -> None:
        _check_every_row(device, some, number)

    check()


def _check_every_row(device: torch.device, some: list[Item], number: int) -> None:
    random = np.random.default_rng(number)
    checks, expected, rows = [], [], []
    for processors, sampling, prompt, output, drafts, is_cut in some:
        check = (cut if is_cut else coupled)(drafts, sampling)
        checks.append(processed_check(check, processors, Written(prompt, output)))
        for i in range(check.num_logit_rows):
            row = random.normal(scale=3, size=70).astype(np.float32)
            rows.append(row)
            before = [*output, *drafts[:i]]
            its_processors = processors if processors.changes_logits else LogitProcessors()
            expected.append(
                processed(
                    row,
                    its_processors,
                    sampling,
                    prompt_ids=prompt,
                    output_ids=before,
                    end_ids=END_IDS,
                )
            )
    logits = torch.from_numpy(np.array(rows, dtype=np.float32).reshape(-1, 70))
    got = process_rows(logits.to(device), checks, lambda part: torch.from_numpy(part).to(device))
    assert np.array(expected).reshape(-1, 70).tolist() == got.tolist()


def test_where_no_stream_asks_the_rows_are_not_even_copied() -> None:
    logits = torch.zeros(3, 40, dtype=torch.bfloat16)
    assert logits is process_rows(logits, [coupled([1, 2], GREEDY)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rows_of_fewer_bits_are_processed_in_float32(dtype: torch.dtype) -> None:
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(1)).to(dtype)
    processors = LogitProcessors(frequency_penalty=0.001, repetition_penalty=1.01)
    check = processed_check(coupled([], GREEDY), processors, Written((), (5, 5)))
    got = process_rows(logits.clone(), [check])[0]
    expected = processed(
        logits[0].float().numpy(),
        processors,
        GREEDY,
        prompt_ids=(),
        output_ids=[5, 5],
        end_ids=(),
    )
    assert expected.tolist() == got.tolist()


def test_a_repeated_draft_is_rejected_where_its_penalty_says_so() -> None:
    """The target alone would write 7 for ever; the second 7 of the draft meets its own penalty."""
    logits = np.zeros((4, 40), dtype=np.float32)
    logits[:, 7], logits[:, 9] = 1.5, 1.0
    processors = LogitProcessors(presence_penalty=1.0)
    check = processed_check(coupled([7, 7, 7], GREEDY), processors, Written())
    (outcome,) = verify_rows(torch.from_numpy(logits), [check])
    assert (1, 9) == (outcome.num_accepted, outcome.token_id)
