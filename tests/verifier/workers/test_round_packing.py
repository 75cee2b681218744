"""Rounds and outcomes survive the way to a worker and back; what cannot be is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RemoteProtocolError
from shared.protocol.logprobs import TokenLogprobs
from shared.speculation.logit_processors import LogitProcessors
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.sparse_row import SparseRow
from tests.support.ends.scripted import TARGET, VOCAB_SIZE
from verifier.target.processing import Processing, SeenTokens
from verifier.target.round import (
    DraftCheck,
    ItemFailure,
    ItemOutcome,
    PromptRows,
    Round,
    RoundItem,
    RoundOutcome,
)
from verifier.target.scripted_target import ScriptedTarget
from verifier.target.token_masks import TokenMasks
from verifier.workers.known_streams import ReadStreams, SentStreams
from verifier.workers.messages import WireOutcome, WirePromptRows, WireRound
from verifier.workers.round_packing import (
    pack_outcome,
    pack_round,
    unpack_outcome,
    unpack_round,
)

BLOCK_TOKENS, NUM_BLOCKS = 4, 64
SCRIPTED = ScriptedTarget(TARGET, num_blocks=NUM_BLOCKS, block_tokens=BLOCK_TOKENS)

token_ids = st.integers(0, VOCAB_SIZE - 1)
rows = st.lists(token_ids, min_size=1, max_size=4, unique=True).map(
    lambda ids: SparseRow(np.array(ids, np.uint32), np.arange(len(ids), 0, -1, dtype=np.uint16))
)
processings = st.builds(
    Processing.of,
    st.builds(
        LogitProcessors,
        frequency_penalty=st.sampled_from([0.0, 0.5]),
        logit_bias=st.lists(st.tuples(token_ids, st.floats(-9, 9)), max_size=3).map(tuple),
        min_tokens=st.integers(0, 3),
    ),
    st.frozensets(token_ids, max_size=2),
)


@st.composite
def checks(draw: st.DrawFn, drafts: tuple[int, ...]) -> DraftCheck:
    mode = draw(st.sampled_from(["rejection", "coupled"]))
    sampling = draw(st.sampled_from([GREEDY, SamplingParameters(0.7, 5, 0.9)]))
    num_rows = len(drafts) if mode == "rejection" else 0
    seen = None
    if draw(st.booleans()):
        ids = np.array(draw(st.lists(token_ids, unique=True, max_size=5)), np.int64)
        counts = draw(st.lists(st.integers(0, 3), min_size=len(ids), max_size=len(ids)))
        places = {token_id: i for i, token_id in enumerate(dict.fromkeys([*ids.tolist(), *drafts]))}
        draft_places = np.array([places[token_id] for token_id in drafts], np.int64)
        seen = SeenTokens(ids, np.array(counts, np.float32), draft_places)
    return DraftCheck(
        drafts,
        tuple(draw(st.lists(rows, min_size=num_rows, max_size=num_rows))),
        mode,
        sampling,
        seed=draw(st.integers(0, 2**63 - 1)),
        position=draw(st.integers(0, 1000)),
        draws_bonus=draw(st.booleans()),
        processing=draw(st.none() | processings),
        seen=seen,
        num_logprobs=draw(st.none() | st.integers(0, 20)),
        num_forced=draw(st.integers(0, len(drafts))),
    )


@st.composite
def rounds(draw: st.DrawFn) -> Round:
    items = []
    for _ in range(draw(st.integers(1, 4))):
        read = tuple(draw(st.lists(token_ids, min_size=1, max_size=6)))
        check = None
        if draw(st.booleans()):
            drafts = tuple(draw(st.lists(token_ids, max_size=4)))
            read, check = read + drafts, draw(checks(drafts))
        num_cached = draw(st.integers(0, 40))
        num_blocks = -(-(num_cached + len(read)) // BLOCK_TOKENS)
        table = draw(st.permutations(range(NUM_BLOCKS)))[:num_blocks]
        if draw(st.booleans()):
            table = list(range(table[0], table[0] + num_blocks))
            table = [block % NUM_BLOCKS for block in table]
        prompt_rows = None
        if draw(st.booleans()):
            first = draw(st.integers(0, len(read) - 1))
            next_ids = tuple(draw(st.lists(token_ids, min_size=1, max_size=len(read) - first)))
            prompt_rows = PromptRows(first, next_ids, draw(st.integers(0, 20)))
        stream = draw(st.integers(0, 3) | st.integers(0, 2**40))
        items.append(RoundItem(stream, read, num_cached, tuple(table), check, prompt_rows))
    return Round(tuple(items))


def plain(value: Any) -> Any:
    """Comparable: arrays as what they hold."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind, value.dtype.itemsize, value.tolist()
    if isinstance(value, msgspec.Struct):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    return value


def no_masks(index: int) -> TokenMasks:
    raise AssertionError("no check has any")


def sent(message: msgspec.Struct) -> Any:
    """What arrives of a message."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=type(message))


@given(rounds())
def test_a_round_survives(round_: Round) -> None:
    arrived = unpack_round(
        sent(pack_round(round_, SentStreams())), SCRIPTED, no_masks, ReadStreams(NUM_BLOCKS)
    )
    assert plain(round_) == plain(arrived)


@given(st.lists(rounds(), min_size=2, max_size=5))
def test_rounds_survive_one_after_the_other(several: list[Round]) -> None:
    sent_before, read_before = SentStreams(), ReadStreams(NUM_BLOCKS)
    for round_ in (*several, *several):
        wire = sent(pack_round(round_, sent_before))
        arrived = unpack_round(wire, SCRIPTED, no_masks, read_before)
        assert plain(round_) == plain(arrived)


@given(rounds(), st.data())
def test_a_round_with_a_changed_column_is_whole_or_refused(round_: Round, data: Any) -> None:
    wire = pack_round(round_, SentStreams())
    columns = [name for name in wire.__struct_fields__ if isinstance(getattr(wire, name), bytes)]
    name = data.draw(st.sampled_from(columns))
    content = bytearray(getattr(wire, name) + data.draw(st.binary(max_size=4)))
    if content:
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    changed = msgspec.structs.replace(wire, **{name: bytes(content)})
    try:
        arrived = unpack_round(changed, SCRIPTED, no_masks, ReadStreams(NUM_BLOCKS))
    except RemoteProtocolError:
        return
    for item in arrived.items:
        assert item.context_tokens <= len(item.block_table) * BLOCK_TOKENS
        assert max(item.token_ids) < VOCAB_SIZE
        assert max(item.block_table) < NUM_BLOCKS


def round_of(num_drafts: int = 2, num_logprobs: int | None = None) -> Round:
    drafts = tuple(range(1, num_drafts + 1))
    check = DraftCheck(drafts, (), "coupled", GREEDY, 1, 0, True, num_logprobs=num_logprobs)
    return Round((RoundItem(0, (5, *drafts), 0, (3,), check), RoundItem(1, (6,), 0, (4,), None)))


OUTCOME = RoundOutcome(
    (ItemOutcome(1, 7, (0.25, 1.0), None, (TokenLogprobs(-1.0), TokenLogprobs(-2.0, ((3, -1.0),)))),
     None),
    0.5,
    0.25,
    row_seconds=(0.125, None),
)  # fmt: skip


def test_an_outcome_survives() -> None:
    round_ = round_of(num_logprobs=1)
    assert OUTCOME == unpack_outcome(sent(pack_outcome(OUTCOME)), round_, VOCAB_SIZE)


def scored_round() -> Round:
    check = DraftCheck((), (), "coupled", GREEDY, 1, 0, True)
    return Round(
        (
            RoundItem(0, (5, 6), 0, (3,), None, PromptRows(1, (9,), 1)),
            RoundItem(1, (7, 8), 0, (4,), check, PromptRows(0, (8,), 0)),
        )
    )


def test_what_is_thought_of_prompts_survives() -> None:
    items = (
        ItemOutcome(0, None, prompt_logprobs=bytes(12)),
        ItemOutcome(0, 7, prompt_logprobs=bytes(4)),
    )
    outcome = RoundOutcome(items, 0.5, 0.25, scoring_seconds=0.125)
    assert outcome == unpack_outcome(sent(pack_outcome(outcome)), scored_round(), VOCAB_SIZE)


@pytest.mark.parametrize(
    "first",
    [
        None,
        ItemOutcome(0, None, prompt_logprobs=bytes(4)),
        ItemOutcome(0, 7, prompt_logprobs=bytes(12)),
        ItemOutcome(1, None, prompt_logprobs=bytes(12)),
    ],
)
def test_what_is_not_of_the_prompt_that_was_read_is_refused(first: ItemOutcome | None) -> None:
    second = ItemOutcome(0, 7, prompt_logprobs=bytes(4))
    wire: WireOutcome = sent(pack_outcome(RoundOutcome((first, second), 0.0, 0.0)))
    with pytest.raises(RemoteProtocolError):
        unpack_outcome(wire, scored_round(), VOCAB_SIZE)


@pytest.mark.parametrize(
    "rows",
    [
        WirePromptRows(2, 0, b"\1\0\0\0", 0),
        WirePromptRows(0, 0, b"", 0),
        WirePromptRows(0, 2, b"\1\0\0\0", 0),
        WirePromptRows(0, 1, b"\1\0\0\0" * 2, 0),
        WirePromptRows(0, 0, b"\xff" * 4, 0),
    ],
)
def test_rows_that_no_item_has_are_refused(rows: WirePromptRows) -> None:
    wire = msgspec.structs.replace(pack_round(scored_round(), SentStreams()), prompt_rows=(rows,))
    with pytest.raises(RemoteProtocolError):
        unpack_round(wire, SCRIPTED, no_masks, ReadStreams(NUM_BLOCKS))


def test_a_failure_of_one_item_survives() -> None:
    failed = ItemOutcome(0, None, failure=ItemFailure.NON_FINITE_LOGITS)
    outcome = RoundOutcome((failed, None), 0.5, 0.25)
    assert outcome == unpack_outcome(sent(pack_outcome(outcome)), round_of(), VOCAB_SIZE)


@pytest.mark.parametrize(
    "items",
    [
        (None, None),
        (ItemOutcome(1, 7),),
        (ItemOutcome(3, 7), None),
        (ItemOutcome(1, VOCAB_SIZE), None),
        (ItemOutcome(1, 7), ItemOutcome(0, 7)),
        (ItemOutcome(1, 7, (0.5, 0.5, 0.5)), None),
        (ItemOutcome(1, 7, logprobs=(TokenLogprobs(-1.0),)), None),
    ],
)
def test_an_outcome_of_another_round_is_refused(items: tuple[ItemOutcome | None, ...]) -> None:
    wire: WireOutcome = sent(pack_outcome(RoundOutcome(items, 0.0, 0.0)))
    with pytest.raises(RemoteProtocolError):
        unpack_outcome(wire, round_of(), VOCAB_SIZE)


def test_a_processed_token_beyond_the_vocabulary_is_refused() -> None:
    processing = Processing.of(LogitProcessors(logit_bias=((VOCAB_SIZE, 1.0),)), frozenset())
    round_ = round_of()
    check = round_.items[0].draft_check
    assert check is not None
    items = (
        msgspec.structs.replace(
            round_.items[0],
            draft_check=msgspec.structs.replace(check, processing=processing),
        ),
    )
    wire: WireRound = sent(pack_round(Round(items), SentStreams()))
    with pytest.raises(RemoteProtocolError, match="beyond a vocabulary"):
        unpack_round(wire, SCRIPTED, no_masks, ReadStreams(NUM_BLOCKS))
