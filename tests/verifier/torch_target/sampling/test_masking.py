"""Masked rows are sampled as the float64 reference samples them with the same tokens ruled out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
import torch

from shared.protocol.messages import AcceptanceMode
from shared.speculation.quantised_row import quantise
from shared.speculation.sampling import GREEDY, PLAIN_SAMPLING, SamplingParameters
from tests.support.models.sampling_rounds import reference
from verifier.target.round import DraftCheck, ItemFailure, ItemOutcome
from verifier.target.token_masks import PackedMasks, allowed_tokens
from verifier.torch_target.sampling.masking import mask_rows
from verifier.torch_target.sampling.verification import verify_rows

VOCAB_SIZE = 137  # no whole number of words, nor of blocks


class ReadyMasks:
    """Implements `TokenMasks` with these rows."""

    def __init__(self, masks: PackedMasks | None) -> None:
        self.masks = masks

    def begin(self) -> None:
        """They are there."""

    def wait(self, deadline: float) -> PackedMasks | None:
        return self.masks

    def advance(self, token_ids: Sequence[int], seconds: float) -> tuple[int, ...]:
        return ()


def masks_of(num_rows: int, random: np.random.Generator) -> PackedMasks:
    allowed = random.random((num_rows, 160)) < 0.2
    allowed[:, 5] = True
    packed = np.packbits(allowed, axis=1, bitorder="little")
    return packed.view(np.uint32)


def check_of(
    mode: AcceptanceMode,
    sampling: SamplingParameters,
    num_drafts: int,
    random: np.random.Generator,
    masks: PackedMasks | None,
) -> DraftCheck:
    rows, drafts = [], []
    for _ in range(num_drafts):
        ids = np.sort(random.choice(VOCAB_SIZE, 12, replace=False))
        rows.append(quantise(ids, np.full(12, 1 / 12), 12))
        drafts.append(int(random.choice(ids)))
    held = None if masks is None else ReadyMasks(masks)
    kept = tuple(rows) if mode == "rejection" else ()
    seed = int(random.integers(1 << 40))
    return DraftCheck(tuple(drafts), kept, mode, sampling, seed, 3, True, masks=held)


SAMPLINGS = [GREEDY, PLAIN_SAMPLING, SamplingParameters(0.7, top_p=0.8), SamplingParameters(1, 4)]


@pytest.mark.parametrize("mode", ["coupled", "rejection"])
def test_a_masked_row_is_drawn_as_if_the_others_tokens_had_no_chance(mode: AcceptanceMode) -> None:
    random = np.random.default_rng(5)
    checks, expected = [], []
    all_logits = []
    for number in range(60):
        sampling, num_drafts = SAMPLINGS[number % 4], number % 5
        masks = masks_of(num_drafts + 1, random) if number % 3 else None
        check = check_of(mode, sampling, num_drafts, random, masks)
        logits = random.normal(size=(check.num_logit_rows, VOCAB_SIZE)).astype(np.float32) * 3
        all_logits.append(logits)
        if masks is not None:
            logits = np.where(allowed_tokens(masks, VOCAB_SIZE), logits, -np.inf)
        checks.append(check)
        expected.append(reference(logits.astype(np.float32), check))
    rows = mask_rows(torch.from_numpy(np.concatenate(all_logits)), checks)
    outcomes = verify_rows(rows.logits, rows.checks)
    assert [None] * 60 == rows.outcomes
    assert [(each.num_accepted, each.token_id) for each in expected] == [
        (each.num_accepted, each.token_id) for each in outcomes
    ]
    for check, outcome in zip(checks, outcomes, strict=True):
        if check.masks is not None and outcome.token_id is not None:
            masks = check.masks.wait(0.0)
            assert masks is not None
            assert allowed_tokens(masks, VOCAB_SIZE)[outcome.num_accepted, outcome.token_id]


def test_without_a_grammar_nothing_is_copied_or_changed() -> None:
    random = np.random.default_rng(6)
    check = check_of("coupled", PLAIN_SAMPLING, 2, random, None)
    logits = torch.randn(3, VOCAB_SIZE)
    before = logits.clone()
    rows = mask_rows(logits, [check])
    assert rows.logits is logits
    assert torch.equal(before, logits)
    assert check is rows.checks[0]


def test_late_and_hopeless_checks_take_no_part_and_others_keep_their_rows() -> None:
    random = np.random.default_rng(7)
    whole, cut, late, broken, free = (
        check_of("coupled", PLAIN_SAMPLING, 2, random, masks_of(3, random)) for _ in range(5)
    )
    assert cut.masks is not None
    cut = msgspec.structs.replace(cut, masks=ReadyMasks(masks_of(1, random)))
    late = msgspec.structs.replace(late, masks=ReadyMasks(np.zeros((0, 0), np.uint32)))
    broken = msgspec.structs.replace(broken, masks=ReadyMasks(None))
    free = msgspec.structs.replace(free, masks=None)
    logits = torch.arange(15.0)[:, None].expand(15, VOCAB_SIZE).contiguous()
    rows = mask_rows(logits, [whole, late, cut, broken, free])
    failed = ItemOutcome(0, None, failure=ItemFailure.GRAMMAR)
    assert [None, ItemOutcome(0, None), None, failed, None] == rows.outcomes
    assert [3, 1, 3] == [check.num_logit_rows for check in rows.checks]
    # Each row of logits is the number that it had.
    assert [0, 1, 2, 6, 12, 13, 14] == rows.logits.amax(1).int().tolist()


def test_as_many_bits_are_read_as_there_are_tokens() -> None:
    masks = np.array([[1 | 1 << 31, 1 << 4, 0, 0, 1 << 8]], np.uint32)
    assert [0, 31, 36, 136] == np.flatnonzero(allowed_tokens(masks, VOCAB_SIZE)[0]).tolist()
