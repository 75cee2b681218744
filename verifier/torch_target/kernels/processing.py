"""Biases, penalties and min_p on a GPU as one Triton kernel: a program for each row that asks.

The rules and their order are those of `shared.speculation.logit_processors`, to the last bit: no
product may be fused with a sum, and divisions are rounded as on a CPU. What was seen is looked up
where it stands in the row, so that a penalty costs what the text before it is long, whatever the
vocabulary. One row's input must never change another's.
"""

from __future__ import annotations

import triton.language as tl
from torch import Tensor

from verifier.torch_target.kernels.launch import kernel
from verifier.torch_target.kernels.processing_numbers import PROCESSING_COLUMNS

_BLOCK, _NUM_WARPS = 4096, 16

# Where a row's numbers stand.
_RECORD_SIZE = tl.constexpr(len(PROCESSING_COLUMNS))
_ROW = tl.constexpr(PROCESSING_COLUMNS.index("row"))
_FIRST_ADDITION = tl.constexpr(PROCESSING_COLUMNS.index("first_addition"))
_NUM_ADDITIONS = tl.constexpr(PROCESSING_COLUMNS.index("num_additions"))
_FIRST_SEEN = tl.constexpr(PROCESSING_COLUMNS.index("first_seen"))
_NUM_SEEN = tl.constexpr(PROCESSING_COLUMNS.index("num_seen"))
_NUM_PENALISED = tl.constexpr(PROCESSING_COLUMNS.index("num_penalised"))
_FIRST_DRAFT = tl.constexpr(PROCESSING_COLUMNS.index("first_draft"))
_NUM_BEFORE = tl.constexpr(PROCESSING_COLUMNS.index("num_before"))
_REPETITION = tl.constexpr(PROCESSING_COLUMNS.index("repetition"))
_FREQUENCY = tl.constexpr(PROCESSING_COLUMNS.index("frequency"))
_PRESENCE = tl.constexpr(PROCESSING_COLUMNS.index("presence"))
_DEPTH = tl.constexpr(PROCESSING_COLUMNS.index("depth"))


def process_rows_on_gpu(logits: Tensor, numbers: Tensor, num_records: int) -> None:
    """Process rows of logits [num_rows, vocab_size] float32 in place.

    `numbers` and `num_records` are those of `ProcessingNumbers`.
    """
    _process[(num_records,)](
        logits,
        logits.stride(0),
        logits.shape[1],
        numbers,
        BLOCK=_BLOCK,
        num_warps=_NUM_WARPS,
        enable_fp_fusion=False,
    )


@kernel
def _process(
    logits: tl.tensor,
    stride: tl.tensor,
    vocab_size: tl.tensor,
    numbers: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    record = numbers + tl.program_id(0) * _RECORD_SIZE
    logits += tl.load(record + _ROW).to(tl.int64) * stride
    num_additions = tl.load(record + _NUM_ADDITIONS)
    if num_additions > 0:
        _add(logits, numbers + tl.load(record + _FIRST_ADDITION), num_additions, BLOCK)
        tl.debug_barrier()  # all have written before one reads
    if tl.load(record + _NUM_PENALISED) > 0:
        _penalise(logits, numbers, record, BLOCK)
        tl.debug_barrier()
    depth = _float(record + _DEPTH)
    if depth < float("inf"):
        _keep_near_largest(logits, vocab_size, depth, BLOCK)


@kernel
def _add(
    logits: tl.tensor, additions: tl.tensor, num_additions: tl.tensor, BLOCK: tl.constexpr
) -> None:
    for start in tl.range(0, num_additions, BLOCK):
        number = start + tl.arange(0, BLOCK)
        is_there = number < num_additions
        ids = tl.load(additions + number, mask=is_there, other=0)
        added = tl.load(additions + num_additions + number, mask=is_there, other=0)
        x = tl.load(logits + ids, mask=is_there, other=0.0)
        tl.store(logits + ids, x + added.to(tl.float32, bitcast=True), mask=is_there)


@kernel
def _penalise(
    logits: tl.tensor, numbers: tl.tensor, record: tl.tensor, BLOCK: tl.constexpr
) -> None:
    seen = numbers + tl.load(record + _FIRST_SEEN)
    num_seen, num_penalised = tl.load(record + _NUM_SEEN), tl.load(record + _NUM_PENALISED)
    drafts = numbers + tl.load(record + _FIRST_DRAFT)
    num_before = tl.load(record + _NUM_BEFORE)
    repetition = _float(record + _REPETITION)
    frequency, presence = _float(record + _FREQUENCY), _float(record + _PRESENCE)
    for start in tl.range(0, num_penalised, BLOCK):
        place = start + tl.arange(0, BLOCK)
        is_there = place < num_penalised
        ids = tl.load(seen + place, mask=is_there, other=0)
        counts = tl.load(seen + num_penalised + place, mask=is_there, other=0)
        counts = counts.to(tl.float32, bitcast=True)
        for i in tl.range(0, num_before):
            counts += (place == tl.load(drafts + i)).to(tl.float32)
        is_seen = is_there & ((place < num_seen) | (counts > 0))
        x = tl.load(logits + ids, mask=is_seen, other=0.0)
        x = tl.where(x > 0, tl.div_rn(x, tl.zeros_like(x) + repetition), x * repetition)
        x = x - frequency * counts
        x = x - tl.where(counts > 0, presence, 0.0)
        tl.store(logits + ids, x, mask=is_seen)


@kernel
def _keep_near_largest(
    logits: tl.tensor, vocab_size: tl.tensor, depth: tl.tensor, BLOCK: tl.constexpr
) -> None:
    """What lies more than `depth` below the largest logit gets -inf."""
    lane = tl.arange(0, BLOCK)
    highest = tl.full([BLOCK], -float("inf"), tl.float32)
    for start in tl.range(0, vocab_size, BLOCK):
        token = start + lane
        x = tl.load(logits + token, mask=token < vocab_size, other=-float("inf"))
        highest = tl.maximum(highest, x)
    lowest = tl.max(highest, 0) - depth
    for start in tl.range(0, vocab_size, BLOCK):
        token = start + lane
        is_there = token < vocab_size
        x = tl.load(logits + token, mask=is_there, other=0.0)
        struck = tl.full([BLOCK], -float("inf"), tl.float32)
        tl.store(logits + token, struck, mask=is_there & (x < lowest))


@kernel
def _float(bits: tl.tensor) -> tl.tensor:
    return tl.load(bits).to(tl.float32, bitcast=True)
