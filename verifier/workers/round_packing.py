"""Rounds and their outcomes on the way between a verifier and a worker.

Pure: messages in, messages out. What does not fit the target is refused here, before it is run or
settled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from shared.errors import RemoteProtocolError
from shared.protocol.logprobs import TokenLogprobs, packed_bytes
from shared.speculation.sparse_row import SparseRow
from verifier.target.round import (
    DraftCheck,
    ItemOutcome,
    PromptRows,
    Round,
    RoundItem,
    RoundOutcome,
)
from verifier.target.target import TargetModel
from verifier.target.token_masks import TokenMasks
from verifier.workers.check_packing import pack_check, pack_rows, unpack_check, unpack_rows
from verifier.workers.columns import cut, packed, unpacked
from verifier.workers.known_streams import ReadStreams, SentStreams
from verifier.workers.messages import (
    WireAnswer,
    WireCheck,
    WireOutcome,
    WirePromptRows,
    WireRound,
)


def pack_round(round_: Round, sent: SentStreams) -> WireRound:
    """The round without its masks, after the rounds that were sent before."""
    items = round_.items
    tables = sent.runs(items)
    checks = [item.draft_check for item in items]
    return WireRound(
        packed([item.stream for item in items], "<u8"),
        packed([len(item.token_ids) for item in items], "<u4"),
        packed([item.num_cached_tokens for item in items], "<u4"),
        packed([token_id for item in items for token_id in item.token_ids], "<u4"),
        packed([len(runs) // 2 for runs in tables], "<u4"),
        packed([number for runs in tables for number in runs], "<u4"),
        tuple(_pack_checks(items, sent)),
        *pack_rows(checks),
        tuple(_pack_prompt_rows(items)),
    )


def unpack_round(
    wire: WireRound,
    target: TargetModel,
    masks_at: Callable[[int], TokenMasks],
    read: ReadStreams,
) -> Round:
    """The round as it was, with the masks of its n-th check that has a grammar.

    `read` are the rounds that came before.

    Raises:
        RemoteProtocolError: it is none that this target could run.
    """
    num_items = len(wire.checks)
    streams = unpacked(wire.streams, "<u8", "streams", num_items).tolist()
    counts = unpacked(wire.num_tokens, "<u4", "numbers of tokens", num_items).tolist()
    num_cached = unpacked(wire.num_cached_tokens, "<u4", "cached tokens", num_items).tolist()
    all_tokens = unpacked(wire.token_ids, "<u4", "tokens")
    if not num_items or not all(counts) or int(all_tokens.max(initial=0)) >= target.vocab_size:
        raise RemoteProtocolError(f"a round of {num_items} items, or one of them, cannot be read")
    num_runs = unpacked(wire.num_runs, "<u4", "runs of blocks", num_items).tolist()
    numbers = unpacked(wire.runs, "<u4", "blocks").tolist()
    tables = read.tables(cut(numbers, [2 * count for count in num_runs], "blocks"))
    rows = iter(
        unpack_rows(wire.num_row_entries, wire.row_token_ids, wire.row_weights, target.vocab_size)
    )
    token_ids = cut(all_tokens.tolist(), counts, "tokens")
    prompt_rows = _unpack_prompt_rows(wire.prompt_rows, counts, target.vocab_size)
    with_stream = zip(streams, wire.checks, token_ids, strict=True)
    checks = _with_checks(with_stream, rows, masks_at, read, target.vocab_size)
    items = [
        RoundItem(stream, tokens, cached, table, check, prompt_rows.get(number))
        for number, (stream, (tokens, check), cached, table) in enumerate(
            zip(streams, checks, num_cached, tables, strict=True)
        )
    ]
    if next(rows, None) is not None:
        raise RemoteProtocolError("there are more rows than drafts")
    size = target.block_tokens
    for cached, count, table in zip(num_cached, counts, tables, strict=True):
        if cached + count > len(table) * size:
            raise RemoteProtocolError(f"{cached + count} tokens exceed an item's blocks")
    return Round(tuple(items))


def pack_outcome(outcome: RoundOutcome) -> WireOutcome:
    """The outcome of a round."""
    return WireOutcome(
        tuple([None if item is None else _pack_answer(item) for item in outcome.items]),
        outcome.forward_seconds,
        outcome.sampling_seconds,
        outcome.row_seconds,
        outcome.scoring_seconds,
    )


def unpack_outcome(wire: WireOutcome, round_: Round, vocab_size: int) -> RoundOutcome:
    """The outcome of this round.

    Raises:
        RemoteProtocolError: it is not the outcome of this round.
    """
    if len(wire.answers) != len(round_.items):
        raise RemoteProtocolError(f"{len(wire.answers)} answers to {len(round_.items)} items")
    if wire.row_seconds and len(wire.row_seconds) != len(round_.items):
        raise RemoteProtocolError(f"{len(wire.row_seconds)} times of {len(round_.items)} items")
    pairs = zip(wire.answers, round_.items, strict=True)
    items = tuple([_unpack_answer(answer, item, vocab_size) for answer, item in pairs])
    return RoundOutcome(
        items,
        wire.forward_seconds,
        wire.sampling_seconds,
        row_seconds=wire.row_seconds,
        scoring_seconds=wire.scoring_seconds,
    )


def _pack_checks(items: Sequence[RoundItem], sent: SentStreams) -> Iterator[WireCheck | None]:
    for item in items:
        check = item.draft_check
        if check is None:
            yield None
        else:
            seen = None if check.seen is None else sent.new_seen(item.stream, check.seen)
            yield pack_check(check, seen)


def _with_checks(
    items: Iterable[tuple[int, WireCheck | None, tuple[int, ...]]],
    rows: Iterator[SparseRow],
    masks_at: Callable[[int], TokenMasks],
    read: ReadStreams,
    vocab_size: int,
) -> Iterator[tuple[tuple[int, ...], DraftCheck | None]]:
    """The tokens and the check of each item, of its stream, what came of the check, its tokens."""
    num_masked = 0
    for stream, wire, tokens in items:
        if wire is None:
            yield tokens, None
            continue
        masks = masks_at(num_masked) if wire.has_masks else None
        num_masked += wire.has_masks
        seen = None
        if wire.seen is not None:
            seen = read.seen(stream, wire.seen, wire.num_drafts, vocab_size)
        yield tokens, unpack_check(wire, tokens, rows, masks, seen, vocab_size)


def _pack_prompt_rows(items: Sequence[RoundItem]) -> Iterator[WirePromptRows]:
    for number, item in enumerate(items):
        rows = item.prompt_rows
        if rows is not None:
            next_ids = packed(rows.next_ids, "<u4")
            yield WirePromptRows(number, rows.first, next_ids, rows.num_others)


def _unpack_prompt_rows(
    wires: Sequence[WirePromptRows], num_tokens: Sequence[int], vocab_size: int
) -> dict[int, PromptRows]:
    """By the item's number."""
    of_items = {}
    for wire in wires:
        next_ids = tuple(unpacked(wire.next_ids, "<u4", "tokens of a prompt").tolist())
        has_item = wire.item < len(num_tokens)
        if not has_item or not 0 < len(next_ids) <= num_tokens[wire.item] - wire.first:
            raise RemoteProtocolError(f"{len(next_ids)} prompt rows of an item that has fewer")
        if max(next_ids) >= vocab_size:
            raise RemoteProtocolError(f"a prompt's token lies beyond a vocabulary of {vocab_size}")
        of_items[wire.item] = PromptRows(wire.first, next_ids, wire.num_others)
    return of_items


def _pack_answer(item: ItemOutcome) -> WireAnswer:
    logprobs = tuple([(token.logprob, token.top) for token in item.logprobs])
    return WireAnswer(
        item.num_accepted,
        item.token_id,
        item.accept_probs,
        item.failure,
        logprobs,
        item.prompt_logprobs,
    )


def _unpack_answer(
    answer: WireAnswer | None, item: RoundItem, vocab_size: int
) -> ItemOutcome | None:
    check, prompt_rows = item.draft_check, item.prompt_rows
    if answer is None:
        if check is not None or prompt_rows is not None:
            raise RemoteProtocolError("an item that asks has no answer")
        return None
    has_failed = answer.failure is not None
    num_prompt_bytes = 0
    if prompt_rows is not None and not has_failed:
        num_prompt_bytes = len(prompt_rows.next_ids) * packed_bytes(prompt_rows.num_others)
    if (check is None and prompt_rows is None) or len(answer.prompt_logprobs) != num_prompt_bytes:
        raise RemoteProtocolError(f"{len(answer.prompt_logprobs)} bytes of a prompt that was read")
    num_drafts = 0 if check is None else len(check.draft_token_ids)
    token_id = answer.token_id
    is_token = token_id is None or (check is not None and token_id < vocab_size)
    if answer.num_accepted > num_drafts or len(answer.accept_probs) > num_drafts or not is_token:
        raise RemoteProtocolError(f"an answer of {answer.num_accepted} to {num_drafts} drafts")
    num_told = answer.num_accepted + (token_id is not None)
    wants_logprobs = check is not None and check.num_logprobs is not None and not has_failed
    if len(answer.logprobs) != (num_told if wants_logprobs else 0):
        raise RemoteProtocolError(f"{len(answer.logprobs)} log-probabilities of {num_told} tokens")
    return ItemOutcome(
        answer.num_accepted,
        token_id,
        answer.accept_probs,
        answer.failure,
        tuple([TokenLogprobs(*told) for told in answer.logprobs]),
        prompt_logprobs=answer.prompt_logprobs,
    )
