"""Rows are processed as the reference processes each, bit for bit, and no other row is touched.

On a CPU by numpy, on a GPU by a kernel; without a GPU the kernel runs in Triton's interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

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
from tests.support.models.triton_kernels import DEVICE, IS_INTERPRETED, import_triton
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


class Process(Protocol):
    """As `process_rows`."""

    def __call__(self, logits: torch.Tensor, checks: Sequence[DraftCheck]) -> torch.Tensor: ...


def process_rows_by_kernel(logits: torch.Tensor, checks: Sequence[DraftCheck]) -> torch.Tensor:
    from verifier.torch_target.kernels.processing import process_rows_on_gpu
    from verifier.torch_target.kernels.processing_numbers import ProcessingNumbers

    asked = ProcessingNumbers.of(checks)
    if asked is None:
        return logits
    rows = logits.to(DEVICE, torch.float32).contiguous()
    process_rows_on_gpu(rows, torch.from_numpy(asked.numbers).to(DEVICE), asked.num_records)
    return rows.cpu()


@pytest.fixture(params=["numpy", "triton"])
def process(request: pytest.FixtureRequest) -> Process:
    """Either of both."""
    if request.param == "numpy":
        return process_rows
    import_triton()
    return process_rows_by_kernel


def test_every_row_of_a_round_is_the_references_to_the_last_bit(process: Process) -> None:
    most = 40 if IS_INTERPRETED and process is not process_rows else 150

    @settings(deadline=None, max_examples=most)
    @given(st.lists(items, min_size=1, max_size=5), st.integers(0, 2**32))
    def check(some: list[Item], number: int) -> None:
        _check_every_row(process, some, number)

    check()


def _check_every_row(process: Process, some: list[Item], number: int) -> None:
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
    got = process(logits, checks)
    assert np.array(expected).reshape(-1, 70).tolist() == got.tolist()


def test_long_texts_and_many_biases_are_processed_to_the_last_bit(process: Process) -> None:
    """More tokens than a kernel's block has lanes."""
    random = np.random.default_rng(1)
    vocab_size = 9000
    processors = LogitProcessors(
        frequency_penalty=0.3,
        presence_penalty=-0.7,
        repetition_penalty=1.3,
        logit_bias=tuple((7 * i, i / 100 - 4) for i in range(1000)),
        min_p=0.001,
    )
    prompt = random.permutation(vocab_size)[:6000].tolist()
    output = random.integers(0, vocab_size, size=2000).tolist()
    drafts = [output[0], prompt[5], *random.integers(0, vocab_size, size=3).tolist(), output[0]]
    sampling = SamplingParameters(0.9)
    check = processed_check(coupled(drafts, sampling), processors, Written(prompt, output))
    logits = random.normal(scale=3, size=(len(drafts) + 1, vocab_size)).astype(np.float32)
    expected = [
        processed(
            row,
            processors,
            sampling,
            prompt_ids=prompt,
            output_ids=[*output, *drafts[:i]],
            end_ids=END_IDS,
        )
        for i, row in enumerate(logits)
    ]
    got = process(torch.from_numpy(logits.copy()), [check])
    assert np.array_equal(np.array(expected), got.numpy())


def test_where_no_stream_asks_the_rows_are_not_even_copied(process: Process) -> None:
    logits = torch.zeros(3, 40, dtype=torch.bfloat16)
    assert logits is process(logits, [coupled([1, 2], GREEDY)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rows_of_fewer_bits_are_processed_in_float32(process: Process, dtype: torch.dtype) -> None:
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(1)).to(dtype)
    processors = LogitProcessors(frequency_penalty=0.001, repetition_penalty=1.01)
    check = processed_check(coupled([], GREEDY), processors, Written((), (5, 5)))
    got = process(logits.clone(), [check])[0]
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
