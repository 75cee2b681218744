"""What top-k and top-p keep of a row of logits, found inside a Triton kernel without sorting.

A search asks how much lies at and above eight thresholds at once until few values of the logits
are left, and then counts the tokens of each; of those that share the last value the smaller ids
stay. The rules are those of `shared.speculation.sampling.probabilities`.
"""

from __future__ import annotations

import triton.language as tl

from verifier.torch_target.kernels.launch import kernel

NO_ID = tl.constexpr(1 << 30)

_THRESHOLDS = tl.constexpr(8)  # the lowest is known to hold
# How far below the largest logit the first thresholds lie, in temperatures: this step and a half.
_FIRST_STEP = tl.constexpr(1.5)
_BINS = tl.constexpr(128)  # values whose tokens are counted at once
_SEGMENTS = tl.constexpr(8)  # blocks whose ties are counted at once: every count waits for a sum
_GUESSES = tl.constexpr(5)  # at most; then steps that are sure to end
_LOG2_E = tl.constexpr(1.4426950408889634)


@kernel
def largest_logit(
    logits: tl.tensor, vocab_size: tl.tensor, BLOCK: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """The largest logit, its smallest id, and whether it is finite and no logit is NaN."""
    lane = tl.arange(0, BLOCK)
    highest = tl.full([BLOCK], -float("inf"), tl.float32)
    ids = tl.full([BLOCK], 0, tl.int32)
    num_broken = tl.zeros([BLOCK], tl.int32)
    for start in tl.range(0, vocab_size, BLOCK, num_stages=1):
        token = start + lane
        x = tl.load(logits + token, mask=token < vocab_size, other=-float("inf")).to(tl.float32)
        num_broken += (x != x).to(tl.int32)
        ids = tl.where(x > highest, token, ids)
        highest = tl.where(x > highest, x, highest)
    largest = tl.max(highest, 0)
    most_likely = tl.min(tl.where(highest == largest, ids, NO_ID), 0)
    is_finite = (largest > -float("inf")) & (largest < float("inf"))
    return largest, most_likely, is_finite & (tl.sum(num_broken, 0) == 0)


@kernel
def cut_row(
    logits: tl.tensor,
    vocab_size: tl.tensor,
    top_k: tl.tensor,
    top_p: tl.tensor,
    largest: tl.tensor,
    scale: tl.tensor,
    needs_total: tl.tensor,
    UNUSED_BITS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """What top-k (0: off) and then top-p (above 1: off) keep of a row.

    Returns the lowest logit that is kept, the last id of those that have it, and the weight of all
    that is kept; that is 1 where it is not asked for.
    """
    cut = key(tl.full([], -float("inf"), tl.float32), UNUSED_BITS)
    last_id = tl.full([], NO_ID, tl.int32)
    total = tl.full([], 1.0, tl.float64)
    num_kept = tl.full([], NO_ID, tl.int32)  # of the tokens whose key is the cut
    surplus = tl.full([], 0.0, tl.float64)  # the weight of the others with that key
    if top_k > 0:
        wanted = top_k.to(tl.float64)
        cut, num_above, num_there, _ = _search(
            logits, vocab_size, largest, scale, 0.0, cut, 0.0, wanted, 0.0, UNUSED_BITS, BLOCK
        )
        num_kept = top_k - num_above.to(tl.int32)
        surplus = (num_there - num_kept) * _weight_of(cut, largest, scale, UNUSED_BITS)
        value = _value(cut, UNUSED_BITS)
        last_id = _id_of_tie(logits, vocab_size, value, num_kept, num_there, BLOCK)
    if top_p < 1.0:
        lowest = cut
        cut, above, num_there, whole = _search(
            logits, vocab_size, largest, scale, scale, cut, surplus, 0.0, top_p, UNUSED_BITS, BLOCK
        )
        num_there = tl.where(cut == lowest, tl.minimum(num_kept, num_there), num_there)
        weight = _weight_of(cut, largest, scale, UNUSED_BITS)
        num_tied = tl.maximum(tl.ceil((top_p * whole - above) / weight), 1.0)
        num_tied = tl.minimum(num_tied, 1.0 * num_there).to(tl.int32)
        value = _value(cut, UNUSED_BITS)
        last_tied = _id_of_tie(logits, vocab_size, value, num_tied, num_there, BLOCK)
        last_id = tl.where(cut == lowest, tl.minimum(last_id, last_tied), last_tied)
        total = above + num_tied * weight
    elif needs_total:
        value = _value(cut, UNUSED_BITS)
        total = _whole(logits, vocab_size, largest, scale, value, BLOCK) - surplus
    return _value(cut, UNUSED_BITS), last_id, total


@kernel
def _search(
    logits: tl.tensor,
    vocab_size: tl.tensor,
    largest: tl.tensor,
    scale: tl.tensor,
    weight_scale: tl.tensor,
    lowest: tl.tensor,
    surplus: tl.tensor,
    wanted: tl.tensor,
    wanted_share: tl.tensor,
    UNUSED_BITS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """The highest key at and above which lies what is wanted.

    Wanted is `wanted` and `wanted_share` of all from the key `lowest` on, less `surplus`. A weight
    scale of 0 counts tokens. Returns the key, how much lies above it, how many tokens have it, and
    how much there is in all.
    """
    number = tl.arange(0, _THRESHOLDS)
    highest = key(largest, UNUSED_BITS)
    # Equal steps of the logit at first: equal steps of the key would all lie near zero.
    step = _FIRST_STEP * _LOG2_E / scale
    values = largest + (number.to(tl.float32) - (_THRESHOLDS - 0.5)) * step
    thresholds = tl.minimum(tl.maximum(key(values, UNUSED_BITS), lowest), highest)
    thresholds = tl.where(number == 0, lowest, thresholds)
    sums = _sums(logits, vocab_size, largest, weight_scale, _value(thresholds, UNUSED_BITS), BLOCK)
    whole = tl.max(sums, 0) - surplus
    wanted += wanted_share * whole
    low, high, reached, above = _narrowed(
        thresholds, sums, wanted, highest.to(tl.int64) + 1, tl.full([], 0.0, tl.float64)
    )
    num_guesses = tl.full([], 0, tl.int32)
    while high - low > _BINS:
        thresholds = (low + (high - low) * number // _THRESHOLDS).to(tl.int32)
        if (low > lowest) & (num_guesses < _GUESSES):  # the lowest may be an infinity's
            share = ((reached - wanted) / (reached - above)).to(tl.float32)
            thresholds = _around(low, high, share, UNUSED_BITS)
        num_guesses += 1
        values = _value(thresholds, UNUSED_BITS)
        sums = _sums(logits, vocab_size, largest, weight_scale, values, BLOCK)
        low, high, reached, above = _narrowed(thresholds, sums, wanted, high, above)
    counts = _counts(logits, vocab_size, low.to(tl.int32), high, UNUSED_BITS, BLOCK)
    bins = low.to(tl.int32) + tl.arange(0, _BINS)
    bin_weights = counts * _weight_of(bins, largest, weight_scale, UNUSED_BITS)
    bin_weights = tl.where(counts > 0, bin_weights, 0.0)
    reached = above + tl.cumsum(bin_weights, 0, reverse=True)
    holds = (counts > 0) & (reached >= wanted)
    # Rounding may leave a little too little in all: then all is kept.
    last = tl.max(tl.where(holds, bins, tl.min(tl.where(counts > 0, bins, NO_ID), 0)), 0)
    above = tl.sum(tl.where(bins == last, reached - bin_weights, 0.0), 0)
    return last, above, tl.sum(tl.where(bins == last, counts, 0), 0), whole


@kernel
def _around(
    low: tl.tensor, high: tl.tensor, share: tl.tensor, UNUSED_BITS: tl.constexpr
) -> tl.tensor:
    """Keys close to where so large a share of what lies between two keys is above the lower one.

    Ever closer from both sides, as if it lay there evenly; `low` is the first of them.
    """
    number = tl.arange(0, _THRESHOLDS)
    bottom = _value(low.to(tl.int32), UNUSED_BITS)
    width = _value(high.to(tl.int32), UNUSED_BITS) - bottom
    side = number - _THRESHOLDS // 2
    distance = tl.exp2(2.0 * tl.abs(side).to(tl.float32) - 8.0)  # 1/64, 1/16, 1/4
    distance = tl.where(side == 0, 0.0, tl.where(side < 0, -distance, distance))
    keys = key(bottom + (share + distance) * width, UNUSED_BITS).to(tl.int64)
    keys = tl.minimum(tl.maximum(keys, low), high - 1)
    return tl.where(number == 0, low, keys).to(tl.int32)


@kernel
def _narrowed(
    thresholds: tl.tensor, sums: tl.tensor, wanted: tl.tensor, high: tl.tensor, above: tl.tensor
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """The last threshold that holds, the first that does not, and the sums at both."""
    number = tl.arange(0, _THRESHOLDS)
    last = tl.max(tl.where((sums >= wanted) | (number == 0), number, 0), 0)
    low = tl.sum(tl.where(number == last, thresholds, 0).to(tl.int64), 0)
    reached = tl.sum(tl.where(number == last, sums, 0.0), 0)
    if last + 1 < _THRESHOLDS:
        high = tl.sum(tl.where(number == last + 1, thresholds, 0).to(tl.int64), 0)
        above = tl.sum(tl.where(number == last + 1, sums, 0.0), 0)
    return low, high, reached, above


@kernel
def _sums(
    logits: tl.tensor,
    vocab_size: tl.tensor,
    largest: tl.tensor,
    scale: tl.tensor,
    thresholds: tl.tensor,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """The weight of all tokens that reach each of the eight thresholds: float64."""
    # A row for each in one tile would be shorter, but its layout has logits change threads.
    lowest, second, third, fourth = _four(thresholds, 0)
    fifth, sixth, seventh, highest = _four(thresholds, 4)
    zeros = tl.zeros([BLOCK], tl.float32)
    of_lowest, of_second, of_third, of_fourth = zeros, zeros, zeros, zeros
    of_fifth, of_sixth, of_seventh, of_highest = zeros, zeros, zeros, zeros
    lane = tl.arange(0, BLOCK)
    for start in tl.range(0, vocab_size, BLOCK, num_stages=1):
        token = start + lane
        x = tl.load(logits + token, mask=token < vocab_size, other=-float("inf")).to(tl.float32)
        token_weights = weights(x, largest, scale)
        # A product with 0 or 1 and a sum are one instruction, a choice and a sum are two.
        of_lowest += (x >= lowest).to(tl.float32) * token_weights
        of_second += (x >= second).to(tl.float32) * token_weights
        of_third += (x >= third).to(tl.float32) * token_weights
        of_fourth += (x >= fourth).to(tl.float32) * token_weights
        of_fifth += (x >= fifth).to(tl.float32) * token_weights
        of_sixth += (x >= sixth).to(tl.float32) * token_weights
        of_seventh += (x >= seventh).to(tl.float32) * token_weights
        of_highest += (x >= highest).to(tl.float32) * token_weights
    low = _placed(of_lowest, of_second, of_third, of_fourth, 0)
    return low + _placed(of_fifth, of_sixth, of_seventh, of_highest, 4)


@kernel
def _four(
    values: tl.tensor, first: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Four of the eight values, each by itself."""
    number = tl.arange(0, _THRESHOLDS) - first
    a = tl.max(tl.where(number == 0, values, -float("inf")), 0)
    b = tl.max(tl.where(number == 1, values, -float("inf")), 0)
    c = tl.max(tl.where(number == 2, values, -float("inf")), 0)
    d = tl.max(tl.where(number == 3, values, -float("inf")), 0)
    return a, b, c, d


@kernel
def _placed(
    a: tl.tensor, b: tl.tensor, c: tl.tensor, d: tl.tensor, first: tl.constexpr
) -> tl.tensor:
    """The sums of four rows of lanes at their places among eight, 0 elsewhere: float64."""
    number = tl.arange(0, _THRESHOLDS) - first
    placed = tl.where(number == 0, tl.sum(a.to(tl.float64), 0), 0.0)
    placed += tl.where(number == 1, tl.sum(b.to(tl.float64), 0), 0.0)
    placed += tl.where(number == 2, tl.sum(c.to(tl.float64), 0), 0.0)
    return placed + tl.where(number == 3, tl.sum(d.to(tl.float64), 0), 0.0)


@kernel
def _whole(
    logits: tl.tensor,
    vocab_size: tl.tensor,
    largest: tl.tensor,
    scale: tl.tensor,
    lowest: tl.tensor,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """The weight of all tokens from a logit on: float64."""
    lane = tl.arange(0, BLOCK)
    sums = tl.zeros([BLOCK], tl.float32)
    for start in tl.range(0, vocab_size, BLOCK, num_stages=1):
        token = start + lane
        x = tl.load(logits + token, mask=token < vocab_size, other=-float("inf")).to(tl.float32)
        sums += (x >= lowest).to(tl.float32) * weights(x, largest, scale)
    return tl.sum(sums.to(tl.float64), 0)


@kernel
def _counts(
    logits: tl.tensor,
    vocab_size: tl.tensor,
    low: tl.tensor,
    high: tl.tensor,
    UNUSED_BITS: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """How many tokens have each of the keys from `low` to below `high`."""
    lane = tl.arange(0, BLOCK)
    counts = tl.zeros([_BINS], tl.int32)
    for start in tl.range(0, vocab_size, BLOCK, num_stages=1):
        token = start + lane
        is_token = token < vocab_size
        x = tl.load(logits + token, mask=is_token, other=-float("inf")).to(tl.float32)
        its_key = key(x, UNUSED_BITS)
        is_there = is_token & (its_key >= low) & (its_key.to(tl.int64) < high)
        counts += tl.histogram(tl.where(is_there, its_key - low, 0), _BINS, mask=is_there)
    return counts


@kernel
def _id_of_tie(
    logits: tl.tensor,
    vocab_size: tl.tensor,
    tied_value: tl.tensor,
    num_tied: tl.tensor,
    num_there: tl.tensor,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """The id of the `num_tied`-th token of a value; beyond all ids if those are all `num_there`."""
    lane = tl.arange(0, BLOCK)
    number = tl.arange(0, _SEGMENTS)
    first_token = tl.full([], 0, tl.int32)  # of the block that has it
    rank = tl.full([], 0, tl.int32)  # in that block
    num_before = tl.full([], 0, tl.int32)
    end = tl.where(num_tied < num_there, vocab_size, 0)
    for start in tl.range(0, end, _SEGMENTS * BLOCK):
        tokens = start + number[:, None] * BLOCK + lane[None, :]
        is_token = tokens < vocab_size
        x = tl.load(logits + tokens, mask=is_token, other=-float("inf")).to(tl.float32)
        counts = tl.sum(((x == tied_value) & is_token).to(tl.int32), 1)
        reached = num_before + tl.cumsum(counts, 0)
        is_there = (reached >= num_tied) & (reached - counts < num_tied)
        first_token += tl.sum(tl.where(is_there, start + number * BLOCK, 0), 0)
        rank += tl.sum(tl.where(is_there, num_tied - reached + counts, 0), 0)
        num_before += tl.sum(counts, 0)
    token = first_token + lane
    x = tl.load(logits + token, mask=token < vocab_size, other=-float("inf")).to(tl.float32)
    is_tied = ((x == tied_value) & (token < vocab_size)).to(tl.int32)
    is_last = (is_tied > 0) & (tl.cumsum(is_tied, 0) == rank)
    return tl.min(tl.where(is_last, token, NO_ID), 0)


@kernel
def weights(x: tl.tensor, largest: tl.tensor, scale: tl.tensor) -> tl.tensor:
    """exp((x - largest) / temperature), 1 for the largest; all 1 at a scale of 0."""
    return tl.where(scale > 0, tl.exp2((x - largest) * scale), 1.0)


@kernel
def _weight_of(
    its_key: tl.tensor, largest: tl.tensor, scale: tl.tensor, UNUSED_BITS: tl.constexpr
) -> tl.tensor:
    return weights(_value(its_key, UNUSED_BITS), largest, scale).to(tl.float64)


@kernel
def key(x: tl.tensor, UNUSED_BITS: tl.constexpr) -> tl.tensor:
    """An integer that orders as the float32 does; zero has one, whatever its sign."""
    bits = (x + 0.0).to(tl.int32, bitcast=True)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> UNUSED_BITS


@kernel
def _value(key: tl.tensor, UNUSED_BITS: tl.constexpr) -> tl.tensor:
    """The float32 of a key."""
    bits = key << UNUSED_BITS
    bits = tl.where(key < 0, bits | ((1 << UNUSED_BITS) - 1), bits)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@kernel
def is_kept(x: tl.tensor, token: tl.tensor, lowest: tl.tensor, last_id: tl.tensor) -> tl.tensor:
    """Whether a cut keeps tokens of logits x."""
    return (x > lowest) | ((x == lowest) & (token <= last_id))
