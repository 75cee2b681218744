"""Wrong drafts end their stream alone; repeated, late and dead ones change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from shared.protocol.draft_packing import pack_rows
from shared.protocol.messages import (
    Cancel,
    Draft,
    Error,
    ErrorCode,
    Open,
    Opened,
    Ready,
    Verdict,
)
from shared.protocol.transport import MAX_ROW_ENTRIES
from shared.speculation.sampling import GREEDY
from tests.support.ends.loopback import (
    Verifier,
)
from tests.support.ends.raw_board import RawBoard, raw_board
from tests.support.ends.scripted import VOCAB_SIZE
from tests.support.messages.misbehaviour import (
    LIKELIEST,
    GatedTokenizer,
    beside_a_healthy_agent,
    certain,
    committed,
    draft,
    likeliest_text,
    passes_until_the_end,
    row,
    run_beside_a_healthy_agent,
    still_works,
    whole,
)

# What a board drafts after its first grant at position `at`, and what the verifier says to it.
DraftOf = Callable[[int], Draft]


DRAFT_ERRORS: dict[str, tuple[DraftOf, str]] = {
    "a gap": (
        lambda at: draft(0, at + 1, [1], certain(1)),
        "draft at {next} leaves a gap after {at}",
    ),
    "a base ahead": (
        lambda at: draft(at + 1, at + 1, [1], certain(1)),
        "draft base {next} is ahead of 0",
    ),
    "beyond the window": (
        lambda at: draft(0, at, [1] * 18, certain(*[1] * 18)),
        "draft up to {beyond} exceeds the window, which ends at {end}",
    ),
    "token id outside the vocabulary": (
        lambda at: draft(0, at, [VOCAB_SIZE], certain(1)),
        f"token id {VOCAB_SIZE} is outside the vocabulary of {VOCAB_SIZE}",
    ),
    "a token id and a half": (
        lambda at: Draft(0, 0, at, b"\x05\x01\x00\x00\x01"),
        "token ids of 5 bytes are malformed",
    ),
    "half a token id": (
        lambda at: Draft(0, 0, at, b"\x01"),
        "token ids of 1 bytes are malformed",
    ),
    "rows cut short": (
        lambda at: draft(0, at, [1, 2, 3], b"\x03\x01"),
        "sparse rows of 2 bytes are too short for 3 rows",
    ),
    "row without entries": (
        lambda at: draft(0, at, [1], b"\x01\x00"),
        f"sparse row of 0 entries is outside 1 to {MAX_ROW_ENTRIES}",
    ),
    "row of too many entries": (
        lambda at: draft(0, at, [1], b"\x01\xff"),
        f"sparse row of 255 entries is outside 1 to {MAX_ROW_ENTRIES}",
    ),
    "row with an id outside the vocabulary": (
        lambda at: draft(0, at, [1], pack_rows((row((1, 5), (VOCAB_SIZE + 3, 4)),))),
        f"token id {VOCAB_SIZE + 3} is outside the vocabulary of {VOCAB_SIZE}",
    ),
    "weight of 0": (
        lambda at: draft(0, at, [1], pack_rows((row((1, 5), (2, 0)),))),
        "sparse row weights must be positive and not increase",
    ),
    "weights that increase": (
        lambda at: draft(0, at, [1], pack_rows((row((1, 5), (2, 6)),))),
        "sparse row weights must be positive and not increase",
    ),
    "id twice in a row": (
        lambda at: draft(0, at, [1], pack_rows((row((1, 5), (1, 5)),))),
        "a sparse row names a token id twice",
    ),
    "row without the drafted token": (
        lambda at: draft(0, at, [1, 2], pack_rows((row((1, 5)), row((1, 5), (3, 4))))),
        "the row of draft token 1 does not hold that token",
    ),
    "no rows in rejection": (
        lambda at: draft(0, at, [1, 2]),
        "a rejection draft of 2 tokens came with 0 rows",
    ),
    "too few rows": (
        lambda at: draft(0, at, [1, 2, 3], certain(3)),
        "a rejection draft of 3 tokens came with 1 rows",
    ),
    "too many rows": (
        lambda at: draft(0, at, [1], certain(1, 2)),
        "2 rows came for 1 draft tokens",
    ),
}


@pytest.mark.parametrize("name", DRAFT_ERRORS)
def test_a_wrong_draft_ends_its_stream_with_one_error(name: str) -> None:
    make, sentence = DRAFT_ERRORS[name]

    async def misbehave(bad: RawBoard) -> None:
        await bad.open(sampling=LIKELIEST)
        verdict = await bad.window()
        at = bad.position_after(verdict)
        await bad.send(make(at))
        end = at + verdict.window
        expected = sentence.format(at=at, next=at + 1, end=end, beyond=at + 18)
        assert Error(ErrorCode.PROTOCOL, expected, channel=0) == await bad.error(0)
        await still_works(bad, channel=1)

    run_beside_a_healthy_agent(misbehave)


def test_a_conflicting_overlap_ends_its_stream() -> None:
    expected_ids = likeliest_text("a prompt", 40)

    async def misbehave(bad: RawBoard) -> None:
        await bad.open(sampling=LIKELIEST)
        at = bad.position_after(await bad.window())
        right = expected_ids[at : at + 2]
        await bad.draft(0, at, right, certain(*right))
        while (verdict := await bad.next_of(Verdict)).num_accepted == 0:
            pass
        assert 2 == verdict.num_accepted
        wrong = [right[0], (right[1] + 1) % VOCAB_SIZE]
        await bad.draft(0, at, wrong, certain(*wrong))
        sentence = f"draft conflicts with an earlier one at position {at + 1}"
        assert Error(ErrorCode.PROTOCOL, sentence, channel=0) == await bad.error(0)
        await still_works(bad, channel=1)

    run_beside_a_healthy_agent(misbehave)


def test_rows_in_coupled_end_their_stream() -> None:
    async def misbehave(bad: RawBoard) -> None:
        await bad.open(sampling=GREEDY)
        verdict = await bad.window()
        await bad.draft(0, bad.position_after(verdict), [1], certain(1))
        sentence = "a coupled draft came with 1 rows"
        assert Error(ErrorCode.PROTOCOL, sentence, channel=0) == await bad.error(0)
        await still_works(bad, channel=1)

    run_beside_a_healthy_agent(misbehave)


@pytest.mark.parametrize("message", [Ready(0), draft(0, 0, [1])])
def test_drafting_before_the_stream_is_open_ends_it_for_good(message: Ready | Draft) -> None:
    async def misbehave(verifier: Verifier) -> None:
        tokenizer = GatedTokenizer()
        verifier.service.tokenizer = tokenizer
        async with raw_board(verifier, "bad") as bad:
            await bad.send(Open(0, 0, text="slow"))
            await bad.send(message)
            sentence = f"{type(message).__name__} is not allowed while opening"
            assert Error(ErrorCode.PROTOCOL, sentence, channel=0) == await bad.error(0)
            tokenizer.gate.set()
            await still_works(bad, channel=1)
            assert [1] == [m.channel for m in bad.received if isinstance(m, Opened)]

    asyncio.run(beside_a_healthy_agent(misbehave))


def test_a_stream_cancelled_before_it_is_open_ends_cancelled() -> None:
    async def misbehave(verifier: Verifier) -> None:
        tokenizer = GatedTokenizer()
        verifier.service.tokenizer = tokenizer
        async with raw_board(verifier, "bad") as bad:
            await bad.send(Open(0, 0, text="slow"))
            await bad.send(Cancel(0))
            tokenizer.gate.set()
            finish = (await bad.next_of(Verdict)).finish
            assert finish is not None
            assert "cancelled" == finish.reason
            await still_works(bad, channel=1)

    asyncio.run(beside_a_healthy_agent(misbehave))


def test_repeated_drafts_change_nothing() -> None:
    expected_ids = likeliest_text("a prompt", 30)

    async def misbehave(bad: RawBoard) -> None:
        await bad.open(sampling=LIKELIEST, max_tokens=30)
        at = bad.position_after(await bad.window())
        right = expected_ids[at : at + 3]
        for _ in range(5):
            await bad.draft(0, at, right, certain(*right))
        await bad.draft(0, at, right[:2], certain(*right[:2]))
        while (verdict := await bad.next_of(Verdict)).num_accepted == 0:
            pass
        await bad.draft(0, at, right, certain(*right))
        await passes_until_the_end(bad, bad.position_after(verdict), base=0)
        assert expected_ids == await whole(bad, expected_ids)

    run_beside_a_healthy_agent(misbehave)


def test_drafts_of_an_older_path_are_dropped() -> None:
    expected_ids = likeliest_text("a prompt", 20)

    async def misbehave(bad: RawBoard) -> None:
        await bad.open(sampling=LIKELIEST, max_tokens=20)
        at = bad.position_after(await bad.window())
        wrong = (expected_ids[at] + 1) % VOCAB_SIZE
        await bad.draft(0, at, [wrong], certain(wrong))
        verdict = await bad.next_of(Verdict)
        assert (at, 0) == (verdict.position, verdict.num_accepted)
        await bad.draft(0, at + 1, [wrong], certain(wrong))
        await passes_until_the_end(bad, at + 1, base=at + 1)
        assert expected_ids == await whole(bad, expected_ids)

    run_beside_a_healthy_agent(misbehave)


def test_late_drafts_are_struck_off_and_their_rest_is_used() -> None:
    expected_ids = likeliest_text("a prompt", 40)

    async def misbehave(bad: RawBoard) -> None:
        # As if the board had begun before the target was here: greedy, so nobody waits for it.
        await bad.open(sampling=GREEDY, max_tokens=40)
        verdict = await bad.window()
        end = bad.position_after(verdict) + verdict.window
        await bad.draft(0, 0, expected_ids[:end])
        assert expected_ids == await committed(bad, 0, expected_ids)

    run_beside_a_healthy_agent(misbehave)


def test_drafts_for_a_stream_that_has_ended_are_ignored() -> None:
    async def misbehave(bad: RawBoard) -> None:
        await bad.open(sampling=GREEDY, max_tokens=3)
        await committed(bad, 0)
        await bad.draft(0, 3, [1, 2, 3])
        await bad.draft(98, 99, [1], b"nonsense")
        await bad.send(Ready(0))
        await bad.send(Cancel(0))
        await still_works(bad, channel=1)

    run_beside_a_healthy_agent(misbehave)
