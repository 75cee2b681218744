"""Rounds are sampled as the float64 reference samples each item, on the same random numbers.

On a CPU by torch, on a GPU by a kernel; without a GPU the kernel runs in Triton's interpreter.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.protocol.messages import AcceptanceMode
from shared.speculation.quantised_row import quantise
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.sparse_row import SparseRow
from tests.support.models.sampling_rounds import Logits, drafted, needed_rows, reference
from tests.support.models.triton_kernels import DEVICE, IS_INTERPRETED, import_triton
from verifier.target.round import DraftCheck, ItemFailure, ItemOutcome
from verifier.torch_target.sampling.row_processing import process_rows
from verifier.torch_target.sampling.verification import verify_rows

# What the interpreter computes for lanes that a kernel leaves unused.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(autouse=True, params=["torch", "triton"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test runs with both."""
    name: str = request.param
    if name == "triton":
        import_triton()
        monkeypatch.setattr(sys.modules[__name__], "verify_rows", verify_rows_by_kernel)
    return name


def verify_rows_by_kernel(logits: torch.Tensor, checks: Sequence[DraftCheck]) -> list[ItemOutcome]:
    from verifier.torch_target.kernels.row_records import RowRecords, outcomes
    from verifier.torch_target.kernels.sampling import sample_rows

    logits = process_rows(logits, checks)
    rows = RowRecords.of(checks, logits.shape[1])
    records, entries = (torch.from_numpy(part).to(DEVICE) for part in (rows.records, rows.entries))
    # The kernel strikes tokens out of its rows.
    return outcomes(checks, sample_rows(logits.clone().to(DEVICE), records, entries).cpu().numpy())


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Work this small takes longer when two threads wait for each other."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


def rounded(outcome: ItemOutcome) -> ItemOutcome:
    """With accept probabilities compared to five digits."""
    accept_probs = tuple(pytest.approx(prob, abs=1e-5) for prob in outcome.accept_probs)
    return msgspec.structs.replace(outcome, accept_probs=accept_probs)


def verified(logits: Sequence[Logits], checks: Sequence[DraftCheck]) -> list[ItemOutcome]:
    return verify_rows(torch.from_numpy(needed_rows(logits, checks)), checks)


samplings = st.builds(
    SamplingParameters,
    temperature=st.sampled_from([0.0, 0.05, 0.8, 1.0, 1.5, 6.0]),
    top_k=st.sampled_from([0, 0, 1, 3, 40, 90, 5000]),
    top_p=st.sampled_from([1.0, 1.0, 0.999, 0.95, 0.5, 0.01]),
)
items = st.tuples(
    st.sampled_from(["rejection", "coupled"]),
    samplings,
    st.integers(0, 2**63 - 1),
    st.booleans(),
    st.integers(0, 4),  # draft tokens
    st.sampled_from([0.0, 0.3, 1.0, 4.0]),  # spread of the logits
)


@pytest.mark.parametrize(
    ("vocab_size", "num_examples"), [(5, 60), (64, 60), (1000, 40), (8192, 10)]
)
def test_every_item_of_a_mixed_round_meets_the_reference(
    vocab_size: int, num_examples: int, implementation: str
) -> None:
    if implementation == "triton" and IS_INTERPRETED:
        num_examples //= 5  # a row takes some 30 ms there

    @settings(deadline=None, max_examples=num_examples)
    @given(st.lists(items, min_size=1, max_size=6), st.integers(0, 2**32))
    def check(
        some: list[tuple[AcceptanceMode, SamplingParameters, int, bool, int, float]], number: int
    ) -> None:
        random = np.random.default_rng(number)
        logits, checks = [], []
        for mode, sampling, seed, draws_bonus, num_drafts, spread in some:
            rows = random.normal(scale=spread, size=(num_drafts + 1, vocab_size)) + 3
            logits.append(rows.astype(np.float32))
            checks.append(drafted(logits[-1], mode, sampling, seed, draws_bonus, random))
        expected = [
            rounded(reference(rows, check)) for rows, check in zip(logits, checks, strict=True)
        ]
        assert expected == verified(logits, checks)

    check()


def test_the_little_that_a_good_draft_leaves_is_drawn_from(implementation: str) -> None:
    logits = np.log(np.array([[0.5, 0.31, 0.19], [1, 1, 1]], dtype=np.float32))
    row = quantise(np.arange(3), np.array([0.52, 0.3, 0.18]), 32)
    checks = [
        DraftCheck((0,), (row,), "rejection", sampling, seed, 0, draws_bonus=True)
        for seed in range(400 if implementation == "torch" else 60)
        for sampling in (SamplingParameters(), SamplingParameters(1.0, 3))
    ]
    expected = [reference(logits, check) for check in checks]
    assert {1, 2} == {made.token_id for made in expected if made.num_accepted == 0}
    assert list(map(rounded, expected)) == verified([logits] * len(checks), checks)


def one_draw(logits: Logits, sampling: SamplingParameters, seed: int) -> DraftCheck:
    return DraftCheck((), (), "coupled", sampling, seed, position=0, draws_bonus=True)


@pytest.mark.parametrize("top_k", [1, 2, 3, 5, 7, 12])
def test_of_equal_logits_the_smaller_ids_survive(top_k: int) -> None:
    logits = np.array([[0, 2, 1, 2, 1, 2, 0, 1, 1, 2, 0, 0, 1, 0]], dtype=np.float32)
    sampling = SamplingParameters(temperature=1.0, top_k=top_k)
    checks = [one_draw(logits, sampling, seed) for seed in range(50)]
    expected = [reference(logits, check) for check in checks]
    assert expected == verified([logits] * 50, checks)


@pytest.mark.parametrize("top_p", [0.1, 0.3, 0.55, 0.9])
def test_a_flat_row_is_cut_at_the_right_id(top_p: float) -> None:
    logits = np.zeros((1, 4096), dtype=np.float32)  # powers of two: every sum is exact
    sampling = SamplingParameters(temperature=3.0, top_p=top_p)
    checks = [one_draw(logits, sampling, seed) for seed in range(5)]
    assert [reference(logits, check) for check in checks] == verified([logits] * 5, checks)


def test_the_most_likely_of_equal_tokens_is_the_first() -> None:
    logits = np.zeros((1, 300), dtype=np.float32)
    logits[0, [77, 78, 200]] = 1.0
    (outcome,) = verified([logits], [one_draw(logits, GREEDY, 0)])
    assert ItemOutcome(0, 77) == outcome


def test_a_token_that_its_own_row_does_not_hold_is_rejected() -> None:
    logits = np.zeros((2, 10), dtype=np.float32)
    row = SparseRow(np.array([1, 2], dtype=np.uint32), np.array([3, 1], dtype=np.uint16))
    check = DraftCheck((5,), (row,), "rejection", SamplingParameters(), 1, 0, draws_bonus=True)
    (outcome,) = verified([logits], [check])
    assert (0, (0.0,)) == (outcome.num_accepted, outcome.accept_probs)
    assert outcome.token_id is not None


def test_greedy_drafts_with_rows_are_compared_with_the_most_likely_tokens() -> None:
    logits = np.eye(3, 6, dtype=np.float32)
    row = SparseRow(np.array([0, 4], dtype=np.uint32), np.array([3, 1], dtype=np.uint16))
    right = DraftCheck((0,), (row,), "rejection", GREEDY, 9, 0, draws_bonus=False)
    wrong = DraftCheck((4,), (row,), "rejection", GREEDY, 9, 0, draws_bonus=True)
    outcomes = verified([logits, logits], [right, wrong])
    assert [ItemOutcome(1, None, (1.0,)), ItemOutcome(0, 0, (0.0,))] == outcomes
    assert reference(logits[:2], wrong) == outcomes[1]


@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize(
    "sampling", [GREEDY, SamplingParameters(), SamplingParameters(0.8, 0, 0.95)]
)
def test_a_row_that_is_not_finite_fails_its_item_alone(
    broken: float, sampling: SamplingParameters
) -> None:
    random = np.random.default_rng(3)
    logits = [random.normal(size=(2, 500)).astype(np.float32) for _ in range(3)]
    checks = [drafted(rows, "coupled", sampling, 5, True, random) for rows in logits]
    sound = verified(logits, checks)
    logits[1][1, 321] = broken
    failed = ItemOutcome(0, None, failure=ItemFailure.NON_FINITE_LOGITS)
    assert [sound[0], failed, sound[2]] == verified(logits, checks)


def test_tokens_that_the_model_rules_out_are_never_drawn() -> None:
    logits = np.full((1, 100), -np.inf, dtype=np.float32)
    logits[0, [7, 70]] = 0.0
    for sampling in (
        SamplingParameters(),
        SamplingParameters(1.0, 0, 0.99),
        SamplingParameters(1.0, 5),
    ):
        checks = [one_draw(logits, sampling, seed) for seed in range(40)]
        drawn = {outcome.token_id for outcome in verified([logits] * 40, checks)}
        assert {7, 70} == drawn


@pytest.mark.parametrize("step", [0.0, 0.0625, 4.0])
@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParameters(100.0, 0, 0.99999),
        SamplingParameters(100.0, 0, 0.5),
        SamplingParameters(100.0, 100_000, 0.9),
        SamplingParameters(100.0, 5_000),
        SamplingParameters(1.0, 0, 0.99999),
        SamplingParameters(100.0),
    ],
)
def test_rows_that_keep_many_tokens_of_a_large_vocabulary_meet_the_reference(
    sampling: SamplingParameters, step: float, implementation: str
) -> None:
    """With ties as in bfloat16 (`step` apart), so many at last that most of a row is one."""
    if implementation == "triton" and IS_INTERPRETED:
        pytest.skip("takes minutes in Triton's interpreter")
    random = np.random.default_rng(11)
    logits = [3 * random.normal(size=(3, 151_936)) for _ in range(2)]
    rows = [np.rint(part / step) * step if step else part for part in logits]
    rows = [part.astype(np.float32) for part in rows]
    checks = [
        drafted(part, "rejection" if i % 2 else "coupled", sampling, i, True, random)
        for i, part in enumerate(rows)
    ]
    expected = [rounded(reference(part, check)) for part, check in zip(rows, checks, strict=True)]
    assert expected == verified(rows, checks)


def test_a_draft_of_the_likeliest_tokens_of_a_flat_row_leaves_the_others() -> None:
    """Each of them takes one of the tokens out that race first."""
    random = np.random.default_rng(12)
    logits = random.normal(size=(2, 8_192)).astype(np.float32)
    likeliest = np.argsort(-logits[0])[:64].astype(np.uint32)
    row = SparseRow(likeliest, np.full(64, 1023, dtype=np.uint16))
    draft = int(likeliest[0])
    checks = [
        DraftCheck((draft,), (row,), "rejection", sampling, seed, 0, draws_bonus=True)
        for seed in range(3)
        for sampling in (SamplingParameters(100.0), SamplingParameters(100.0, 0, 0.99))
    ]
    expected = [rounded(reference(logits, check)) for check in checks]
    assert expected == verified([logits] * len(checks), checks)


def test_no_checks_give_no_outcomes() -> None:
    assert [] == verify_rows(torch.zeros(0, 50), [])


def test_an_outcome_does_not_depend_on_the_rest_of_the_round() -> None:
    random = np.random.default_rng(4)
    choices = [SamplingParameters(), SamplingParameters(0.8, 0, 0.95), SamplingParameters(0.9, 20)]
    logits = [random.normal(scale=2, size=(4, 3000)).astype(np.float32) for _ in range(12)]
    checks = [
        drafted(rows, "rejection" if i % 2 else "coupled", choices[i % 3], i, True, random)
        for i, rows in enumerate(logits)
    ]
    alone = [verified([rows], [check])[0] for rows, check in zip(logits, checks, strict=True)]
    assert alone == verified(logits, checks)


def test_bfloat16_logits_are_taken_as_they_are() -> None:
    logits = torch.randn(1, 200, generator=torch.Generator().manual_seed(1)).bfloat16()
    check = one_draw(logits.float().numpy(), SamplingParameters(1.0, 0, 0.9), 8)
    assert [reference(logits.float().numpy(), check)] == verify_rows(logits, [check])
