"""Kernels find every column by its name: tables in another order, with one more, change nothing."""

from __future__ import annotations

import importlib.util
import random
from collections import namedtuple
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.sparse_row import SparseRow
from tests.support.models.triton_kernels import DEVICE, import_triton
from verifier.target.round import DraftCheck, ItemOutcome, RoundItem
from verifier.torch_target.kernels import paged_layout, row_records
from verifier.torch_target.kernels.head_shape import HeadShape
from verifier.torch_target.kernels.score_rule import ScoreRule

import_triton()

from verifier.torch_target.kernels import attention, sampling  # noqa: E402

# What the interpreter computes for lanes that a kernel leaves unused.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
VOCAB_SIZE = 200


def read_anew(module: ModuleType) -> ModuleType:
    """A second copy of a module, which reads the tuples of columns once more."""
    assert module.__file__ is not None
    spec = importlib.util.spec_from_file_location("read_anew", Path(module.__file__))
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy


def shuffled(names: tuple[str, ...], chance: random.Random) -> list[str]:
    """The names in an order where none stands where it stood, behind one that is new."""
    while True:
        order = ["new", *chance.sample(names, len(names))]
        if all(order.index(name) != names.index(name) for name in names):
            return order


CHECKS = [
    DraftCheck((3, 5), (), "coupled", GREEDY, seed=1, position=0, draws_bonus=True),
    DraftCheck((7,), (), "coupled", SamplingParameters(0.9, 20, 0.9), 1 << 40, 9, True),
    DraftCheck(
        (11, 12),
        tuple(
            SparseRow(np.array([i, 60, 80], np.uint32), np.array([300, 200, 90], np.uint16))
            for i in (11, 12)
        ),
        "rejection",
        SamplingParameters(0.7),
        seed=77,
        position=3,
        draws_bonus=True,
    ),
]


def sampled_by(kernels: Any, logits: torch.Tensor) -> list[ItemOutcome]:
    rows = row_records.RowRecords.of(CHECKS, VOCAB_SIZE)
    records, entries = (torch.from_numpy(part).to(DEVICE) for part in (rows.records, rows.entries))
    results = kernels.sample_rows(logits.clone().to(DEVICE), records, entries)
    return row_records.outcomes(CHECKS, results.cpu().numpy())


def test_sampling_follows_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    num_rows = sum(check.num_logit_rows for check in CHECKS)
    logits = torch.randn(num_rows, VOCAB_SIZE, generator=torch.Generator().manual_seed(1))
    expected = sampled_by(sampling, logits)
    assert any(0 < prob < 1 for outcome in expected for prob in outcome.accept_probs)
    chance = random.Random(2)
    record = namedtuple("record", shuffled(row_records.RECORD_COLUMNS, chance))
    record.__new__.__defaults__ = (-9,) * len(record._fields)
    monkeypatch.setattr(row_records, "Record", record)
    monkeypatch.setattr(row_records, "RECORD_COLUMNS", record._fields)
    for name in ("ENTRY_COLUMNS", "RESULT_COLUMNS"):
        monkeypatch.setattr(row_records, name, shuffled(getattr(row_records, name), chance))
    assert expected == sampled_by(read_anew(sampling), logits)


def attended_by(kernels: Any, columns_of_work: int) -> torch.Tensor:
    """The output for a stream whose keys are cut into parts, and for one that is not cut."""
    heads, size = HeadShape(2, 1), 16
    items = [
        RoundItem(0, (0,) * 3, 300, tuple(range(20)), None),
        RoundItem(1, (0,), 4, (25,), None),
    ]
    positions = paged_layout.positions_of(items)
    layout = paged_layout.PagedLayout.of(items, positions, 16, heads, [None], 4).to(DEVICE)
    assert columns_of_work == layout.works[None].work.shape[1]
    assert len(layout.works[None].tiles) == 1
    generator = torch.Generator().manual_seed(3)
    keys, values = torch.randn(2, 26 * 16, 1, size, generator=generator).to(DEVICE)
    query = torch.randn(4, 2, size, generator=generator).transpose(0, 1).to(DEVICE)
    output: torch.Tensor = kernels.paged_attention(query, keys, values, layout, ScoreRule(0.25))
    return output


def test_attention_follows_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = attended_by(attention, len(paged_layout.WORK_COLUMNS))
    chance = random.Random(4)
    for columns, table in (("WORK_COLUMNS", "WorkColumns"), ("TILE_COLUMNS", "TileColumns")):
        names = shuffled(getattr(paged_layout, columns), chance)
        values = namedtuple("values", names)

        def with_new(values: Any = values, **others: Any) -> Any:
            return values(new=-9 + 0 * next(iter(others.values())), **others)

        monkeypatch.setattr(paged_layout, table, with_new)
        monkeypatch.setattr(paged_layout, columns, values._fields)
    output = attended_by(read_anew(attention), len(paged_layout.WORK_COLUMNS))
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
