"""No legal number of one item, and no row of it, is an exception or changes another item.

Both implementations against the float64 reference, over all that the protocol lets a request say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.speculation.sampling import GREEDY, SamplingParameters
from tests.support.models.processed_rows import legal_processors
from tests.support.models.sampling_rounds import (
    BROKEN,
    EDGE_TEMPERATURES,
    EDGE_TOP_K,
    EDGE_TOP_P,
    POISONS,
    ROW_KINDS,
    EdgeItem,
    is_right,
    needed_rows,
    poison,
    reference,
)
from tests.support.models.triton_kernels import IS_INTERPRETED, import_triton
from tests.verifier.torch_target.sampling.test_verification import one_draw, verify_rows_by_kernel
from verifier.target.round import DraftCheck, ItemOutcome
from verifier.torch_target.sampling.verification import verify_rows

Verify = Callable[[torch.Tensor, Sequence[DraftCheck]], list[ItemOutcome]]

# What the interpreter computes for lanes that a kernel leaves unused.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(params=["torch", "triton"])
def verify(request: pytest.FixtureRequest) -> Verify:
    """Every test that asks for it runs with both."""
    if request.param == "torch":
        return verify_rows
    import_triton()
    return verify_rows_by_kernel


legal_items = st.builds(
    EdgeItem,
    mode=st.sampled_from(["rejection", "coupled"]),
    sampling=st.builds(
        SamplingParameters,
        temperature=st.sampled_from(EDGE_TEMPERATURES) | st.floats(0, 100),
        top_k=st.sampled_from(EDGE_TOP_K) | st.integers(0, 1 << 24) | st.integers(0, 100),
        top_p=st.sampled_from(EDGE_TOP_P) | st.floats(0, 1, exclude_min=True),
    ),
    seed=st.integers(0, 2**63 - 1),
    num_drafts=st.integers(0, 2),
    row_kind=st.sampled_from(ROW_KINDS),
    processors=legal_processors,
)


def test_every_legal_item_meets_the_reference_beside_a_poisoned_one(verify: Verify) -> None:
    is_slow = verify is not verify_rows and IS_INTERPRETED

    @settings(deadline=None, max_examples=12 if is_slow else 200)
    @given(
        st.lists(legal_items, min_size=2, max_size=3 if is_slow else 6),
        st.sampled_from(POISONS),
        st.sampled_from([5, 64, 65, 700]),
        st.integers(0, 2**32),
    )
    def check(some: list[EdgeItem], poison_kind: str, vocab_size: int, number: int) -> None:
        random = np.random.default_rng(number)
        logits = [item.rows(vocab_size, random) for item in some]
        checks = [item.check(rows, random) for item, rows in zip(some, logits, strict=True)]
        victim = int(random.integers(len(some)))
        poison(logits[victim][: checks[victim].num_logit_rows], poison_kind, random)
        outcomes = verify(torch.from_numpy(needed_rows(logits, checks)), checks)
        assert BROKEN == outcomes[victim]
        for i, (outcome, rows, its_check) in enumerate(zip(outcomes, logits, checks, strict=True)):
            written = some[i].written(vocab_size)
            assert i == victim or is_right(outcome, rows, its_check, written), (some[i], outcome)

    check()


@pytest.mark.parametrize("temperature", [5e-324, 2.9e-39, 9.99e-6])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (0, 0.95), (3, 1.0)])
def test_a_temperature_below_the_lowest_is_greedy(
    verify: Verify, temperature: float, top_k: int, top_p: float
) -> None:
    logits = np.random.default_rng(1).normal(size=(1, 300)).astype(np.float32)
    logits[0, [70, 200]] = 7.0
    sampling = SamplingParameters(temperature, top_k, top_p)
    checks = [one_draw(logits, sampling, 3), one_draw(logits, SamplingParameters(), 4)]
    outcomes = verify(torch.from_numpy(np.concatenate([logits] * 2)), checks)
    assert [ItemOutcome(0, 70), reference(logits, checks[1])] == outcomes


@pytest.mark.parametrize("num_tied", [3, 7, 10, 300])
def test_top_p_of_ties_keeps_exactly_as_many_as_the_reference(
    verify: Verify, num_tied: int
) -> None:
    """Sums of equal weights have no rounding that could differ: not one token is off."""
    logits = np.full((1, 300), -np.inf, dtype=np.float32)
    logits[0, :num_tied] = 0.5
    checks = [
        one_draw(logits, SamplingParameters(temperature, 0, num_kept / num_tied), seed)
        for num_kept in {1, num_tied // 2, num_tied - 1}
        for temperature in (1e-5, 100.0)
        for seed in range(6)
    ]
    outcomes = verify(torch.from_numpy(np.concatenate([logits] * len(checks))), checks)
    assert [reference(logits, check) for check in checks] == outcomes


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParameters(), SamplingParameters(1, 2, 0.9)])
def test_plus_infinity_fails_its_item_and_minus_infinity_does_not(
    verify: Verify, sampling: SamplingParameters
) -> None:
    logits = np.zeros((3, 70), dtype=np.float32)
    logits[0, 5] = np.inf
    logits[1, :] = -np.inf
    logits[2, 1:] = -np.inf
    checks = [one_draw(logits[i : i + 1], sampling, i) for i in range(3)]
    assert [BROKEN, BROKEN, ItemOutcome(0, 0)] == verify(torch.from_numpy(logits), checks)
