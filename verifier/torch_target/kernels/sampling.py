"""Sampling of a round's rows on a GPU as one Triton kernel: a program for each row of logits.

The same rules on the same random numbers as `shared.speculation`, without a sorted vocabulary and
without a dense draft row. What top-k or top-p keeps is found by asking how much lies above a few
thresholds at once until one value of the logits is left. A draw is an
exponential race: its random numbers are made where they are used, and its last few contenders
are compared in float64.

One row's input must never change another's result.
"""

from __future__ import annotations

import torch
import triton.language as tl
from torch import Tensor

from shared.protocol.transport import MAX_ROW_ENTRIES
from shared.speculation.noise import Domain
from shared.speculation.verification import SMALLEST_RESIDUAL_MASS
from verifier.torch_target.kernels.launch import kernel
from verifier.torch_target.kernels.noise import (
    quick_waiting_times,
    to_uniforms,
    uniforms,
    waiting_times,
)
from verifier.torch_target.kernels.row_records import (
    BROKEN_ROW,
    ENTRY_COLUMNS,
    RACE_MARGIN,
    RECORD_COLUMNS,
    RESULT_COLUMNS,
)
from verifier.torch_target.kernels.truncation import NO_ID, cut_row, is_kept, largest_logit

# Bits that no two logits of a type differ in, once they are float32.
_UNUSED_BITS = {torch.bfloat16: 16, torch.float16: 13, torch.float32: 0}
_BLOCK, _NUM_WARPS = 4096, 16

# Where a row's numbers stand.
_RECORD_SIZE = tl.constexpr(len(RECORD_COLUMNS))
_IS_GREEDY = tl.constexpr(RECORD_COLUMNS.index("is_greedy"))
_DRAFT_TOKEN_ID = tl.constexpr(RECORD_COLUMNS.index("draft_token_id"))
_FIRST_ENTRY = tl.constexpr(RECORD_COLUMNS.index("first_entry"))
_NUM_ENTRIES = tl.constexpr(RECORD_COLUMNS.index("num_entries"))
_WEIGHT_TOTAL = tl.constexpr(RECORD_COLUMNS.index("weight_total"))
_TOP_K = tl.constexpr(RECORD_COLUMNS.index("top_k"))
_SEED = tl.constexpr(RECORD_COLUMNS.index("seed"))
_POSITION = tl.constexpr(RECORD_COLUMNS.index("position"))
_DOMAIN = tl.constexpr(RECORD_COLUMNS.index("domain"))
_TEMPERATURE = tl.constexpr(RECORD_COLUMNS.index("temperature"))
_TOP_P = tl.constexpr(RECORD_COLUMNS.index("top_p"))
_ENTRY_SIZE = tl.constexpr(len(ENTRY_COLUMNS))
_ENTRY_TOKEN_ID = tl.constexpr(ENTRY_COLUMNS.index("token_id"))
_ENTRY_WEIGHT = tl.constexpr(ENTRY_COLUMNS.index("weight"))
_RESULT_SIZE = tl.constexpr(len(RESULT_COLUMNS))
_TOKEN_ID = tl.constexpr(RESULT_COLUMNS.index("token_id"))
_ACCEPT_PROB = tl.constexpr(RESULT_COLUMNS.index("accept_prob"))
_SURVIVES = tl.constexpr(RESULT_COLUMNS.index("survives"))

_BROKEN = tl.constexpr(BROKEN_ROW)
_NEVER = tl.constexpr(1e30)  # a waiting time that something always beats
_SMALLEST_RESIDUAL = tl.constexpr(SMALLEST_RESIDUAL_MASS)
_ACCEPT = tl.constexpr(int(Domain.ACCEPT))
_LOG2_E = tl.constexpr(1.4426950408889634)
_MARGIN = tl.constexpr(RACE_MARGIN)


def sample_rows(logits: Tensor, records: Tensor, entries: Tensor) -> Tensor:
    """Results [num_rows, len(RESULT_COLUMNS)] float64 of logits [num_rows, vocab_size].

    Logits are bfloat16, float16 or float32 and are not kept: entries of draft distributions are
    struck out of them. `records` and `entries` are those of `RowRecords`.
    """
    num_rows, vocab_size = logits.shape
    results = torch.empty(num_rows, len(RESULT_COLUMNS), dtype=torch.float64, device=logits.device)
    if num_rows:
        _sample[(num_rows,)](
            logits,
            logits.stride(0),
            vocab_size,
            records,
            entries,
            results,
            UNUSED_BITS=_UNUSED_BITS[logits.dtype],
            BLOCK=_BLOCK,
            ENTRIES=MAX_ROW_ENTRIES,
            num_warps=_NUM_WARPS,
        )
    return results


@kernel
def _sample(
    logits: tl.tensor,
    stride: tl.tensor,
    vocab_size: tl.tensor,
    records: tl.tensor,
    entries: tl.tensor,
    results: tl.tensor,
    UNUSED_BITS: tl.constexpr,
    BLOCK: tl.constexpr,
    ENTRIES: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64)
    record = records + row * _RECORD_SIZE
    result = results + row * _RESULT_SIZE
    logits += row * stride
    largest, most_likely, is_sound = largest_logit(logits, vocab_size, BLOCK)
    if not is_sound:
        tl.store(result + _TOKEN_ID, tl.full([], _BROKEN, tl.float64))
    elif tl.load(record + _IS_GREEDY) != 0:
        tl.store(result + _TOKEN_ID, most_likely.to(tl.float64))
    else:
        temperature = tl.load(record + _TEMPERATURE).to(tl.float64, bitcast=True)
        scale = (1.0 / temperature).to(tl.float32) * _LOG2_E
        top_k = tl.load(record + _TOP_K).to(tl.int32)
        top_p = tl.load(record + _TOP_P).to(tl.float64, bitcast=True)
        is_test = tl.load(record + _DRAFT_TOKEN_ID) >= 0
        lowest, last_id, total = cut_row(
            logits, vocab_size, top_k, top_p, largest, scale, is_test, UNUSED_BITS, BLOCK
        )
        best = tl.full([], _NEVER, tl.float64)
        winner = tl.full([], NO_ID, tl.int32)
        survives = is_test
        if is_test:
            survives, best, winner = _test(
                logits,
                record,
                entries,
                result,
                largest,
                temperature,
                lowest,
                last_id,
                total,
                ENTRIES,
            )
        if not survives:  # else no other token is asked for
            winner = _race(
                logits,
                vocab_size,
                record,
                largest,
                temperature,
                scale,
                lowest,
                last_id,
                best,
                winner,
                BLOCK,
            )
        tl.store(result + _TOKEN_ID, winner.to(tl.float64))


@kernel
def _test(
    logits: tl.tensor,
    record: tl.tensor,
    entries: tl.tensor,
    result: tl.tensor,
    largest: tl.tensor,
    temperature: tl.tensor,
    lowest: tl.tensor,
    last_id: tl.tensor,
    total: tl.tensor,
    ENTRIES: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Leviathan et al. 2023, Algorithm 1: accept token x if u < target(x) / draft(x).

    Returns whether it is accepted, and the first to arrive of the tokens that the draft
    distribution names, drawn from what it leaves of the target's, and strikes those tokens out of
    the row. Where nothing is left, the target's own distribution is drawn from.
    """
    seed, position = tl.load(record + _SEED), tl.load(record + _POSITION).to(tl.int32)
    entry = tl.arange(0, ENTRIES)
    is_entry = entry < tl.load(record + _NUM_ENTRIES)
    pointers = entries + _ENTRY_SIZE * (tl.load(record + _FIRST_ENTRY) + entry)
    ids = tl.load(pointers + _ENTRY_TOKEN_ID, mask=is_entry, other=-1)
    draft_probs = tl.load(pointers + _ENTRY_WEIGHT, mask=is_entry, other=0).to(tl.float64)
    draft_probs = draft_probs / tl.load(record + _WEIGHT_TOTAL).to(tl.float64)
    x = tl.load(logits + ids, mask=is_entry, other=-float("inf")).to(tl.float32)
    kept = is_kept(x, ids, lowest, last_id) & is_entry
    probs = tl.where(kept, _weights64(x, largest, temperature) / total, 0.0)

    draft_id = tl.load(record + _DRAFT_TOKEN_ID).to(tl.int32)
    x = tl.load(logits + draft_id).to(tl.float32)
    prob = _weights64(x, largest, temperature) / total
    prob = tl.where(is_kept(x, draft_id, lowest, last_id), prob, 0.0)
    # A token that its own row does not hold was not drawn from it.
    draft_prob = tl.sum(tl.where(ids == draft_id, draft_probs, 0.0), 0)
    ratio = prob / tl.where(draft_prob > 0, draft_prob, 1.0)
    accept_prob = tl.where(draft_prob > 0, tl.minimum(ratio, 1.0), 0.0)
    uniform = tl.max(uniforms(seed, position, _ACCEPT, tl.zeros([1], tl.int32)), 0)
    survives = uniform.to(tl.float64) < accept_prob
    tl.store(result + _ACCEPT_PROB, accept_prob)
    tl.store(result + _SURVIVES, survives.to(tl.float64))

    best = tl.full([], _NEVER, tl.float64)
    winner = tl.full([], NO_ID, tl.int32)
    if 1.0 - tl.sum(tl.minimum(probs, draft_probs), 0) > _SMALLEST_RESIDUAL:
        remaining = (probs - draft_probs) * total
        domain = tl.load(record + _DOMAIN).to(tl.int32)
        times = waiting_times(uniforms(seed, position, domain, ids))
        times = tl.where(
            kept & (remaining > 0), times / tl.where(remaining > 0, remaining, 1.0), _NEVER
        )
        best = tl.min(times, 0)
        winner = tl.min(tl.where((times == best) & is_entry, ids, NO_ID), 0)
        tl.debug_barrier()  # all have read before one writes, and the other way round
        struck = tl.full([ENTRIES], -float("inf"), tl.float32)
        tl.store(logits + ids, struck.to(logits.dtype.element_ty), mask=is_entry)
        tl.debug_barrier()
    return survives, best, winner


@kernel
def _race(
    logits: tl.tensor,
    vocab_size: tl.tensor,
    record: tl.tensor,
    largest: tl.tensor,
    temperature: tl.tensor,
    scale: tl.tensor,
    lowest: tl.tensor,
    last_id: tl.tensor,
    best: tl.tensor,
    winner: tl.tensor,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """The first of all kept tokens to arrive, if it is before `best`; token i takes E_i / w_i.

    Every lane keeps its own first, in float32; those that are as good as the first of all meet
    again in float64.
    """
    seed, position = tl.load(record + _SEED), tl.load(record + _POSITION).to(tl.int32)
    domain = tl.load(record + _DOMAIN).to(tl.int32)
    quarter = tl.arange(0, BLOCK // 4)
    zeros = tl.zeros([BLOCK // 4], tl.int32)
    first = tl.full([BLOCK // 4], _NEVER, tl.float32)
    ids = zeros
    for start in tl.range(0, vocab_size, BLOCK):
        # Four ids share a counter, so a lane takes all four: nothing has to change threads.
        counter = start // 4 + quarter
        a, a_kept = _contenders(logits, 4 * counter, vocab_size, lowest, last_id)
        b, b_kept = _contenders(logits, 4 * counter + 1, vocab_size, lowest, last_id)
        c, c_kept = _contenders(logits, 4 * counter + 2, vocab_size, lowest, last_id)
        d, d_kept = _contenders(logits, 4 * counter + 3, vocab_size, lowest, last_id)
        if tl.max((a_kept | b_kept | c_kept | d_kept).to(tl.int32), 0) > 0:
            words = tl.philox(seed, counter, zeros + position, zeros + domain, zeros)
            first, ids = _earlier(first, ids, a, a_kept, 4 * counter, words[0], largest, scale)
            first, ids = _earlier(first, ids, b, b_kept, 4 * counter + 1, words[1], largest, scale)
            first, ids = _earlier(first, ids, c, c_kept, 4 * counter + 2, words[2], largest, scale)
            first, ids = _earlier(first, ids, d, d_kept, 4 * counter + 3, words[3], largest, scale)
    is_close = first <= tl.min(first, 0) * _MARGIN
    x = tl.load(logits + ids).to(tl.float32)
    times = waiting_times(uniforms(seed, position, domain, ids))
    times = times / _weights64(x, largest, temperature)
    times = tl.where(is_close & (first < _NEVER), times, _NEVER)
    time = tl.min(times, 0)
    its_id = tl.min(tl.where(times == time, ids, NO_ID), 0)
    is_better = (time < best) | ((time == best) & (its_id < winner))
    return tl.where(is_better, its_id, winner)


@kernel
def _contenders(
    logits: tl.tensor,
    token: tl.tensor,
    vocab_size: tl.tensor,
    lowest: tl.tensor,
    last_id: tl.tensor,
) -> tuple[tl.tensor, tl.tensor]:
    """The logits of tokens, and which of them a cut keeps."""
    x = tl.load(logits + token, mask=token < vocab_size, other=-float("inf")).to(tl.float32)
    return x, is_kept(x, token, lowest, last_id)


@kernel
def _earlier(
    first: tl.tensor,
    ids: tl.tensor,
    x: tl.tensor,
    kept: tl.tensor,
    token: tl.tensor,
    words: tl.tensor,
    largest: tl.tensor,
    scale: tl.tensor,
) -> tuple[tl.tensor, tl.tensor]:
    """The first arrivals and their ids once these tokens took part."""
    # Over the weight, without a division.
    times = quick_waiting_times(to_uniforms(words)) * tl.exp2((largest - x) * scale)
    is_first = kept & (times < first)
    return tl.where(is_first, times, first), tl.where(is_first, token, ids)


@kernel
def _weights64(x: tl.tensor, largest: tl.tensor, temperature: tl.tensor) -> tl.tensor:
    return tl.exp((x.to(tl.float64) - largest.to(tl.float64)) / temperature)
