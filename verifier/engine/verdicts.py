"""What a board is told of what its streams came to: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from shared.protocol.messages import (
    PART_BYTES,
    Error,
    ErrorCode,
    Finish,
    PromptLogprobs,
    Verdict,
)
from shared.protocol.token_ids import MAX_ID_BYTES, pack_token_ids
from verifier.rounds.planner import StreamResult
from verifier.streams.stream import Stream
from verifier.target.round import ItemFailure

# Of an output that was committed while the board was gone, in one Verdict: the board makes text of
# them and looks each up, 5 ms of its event loop on a PC's core.
_TOLD_TOKENS = 2048
# Where that makes more messages than these, they are longer: a board's queue takes 1,024.
_MOST_VERDICTS = 64
# What of a round is told before the next one starts, 0.4 ms in all on 2 busy cores. To start one
# takes a target's own Python, 1 to 4 ms for 18 streams, and who is told behind that is told now
# soon, now late: by 3 to 5 ms in the slowest rounds beside two others (Xeon, 32 cores, 2026-11).
_MOST_FIRST = 4
# To look for them takes no time that counts in a round of so many streams.
_MOST_LOOKED_AT = 64


def missed_messages(
    channel: int,
    output_ids: Sequence[int],
    position: int,
    finish: Finish | None,
    logprobs: bytes = b"",
    prompt_logprobs: bytes = b"",
) -> Iterator[PromptLogprobs | Verdict]:
    """What a board is told that lacks the output from `position` on.

    `logprobs` are those of all the output, and of the prompt, where it asked.
    """
    if not position and (output_ids or finish):
        yield from _told_of_prompt(channel, prompt_logprobs)
    size = len(logprobs) // max(len(output_ids), 1)
    num_told = max(_TOLD_TOKENS, -(-(len(output_ids) - position) // _MOST_VERDICTS))
    if size:
        num_told = min(num_told, PART_BYTES // (MAX_ID_BYTES + size))
    while told := output_ids[position : position + num_told]:
        end = position + len(told)
        is_last = end == len(output_ids)
        yield Verdict(
            channel=channel,
            position=position,
            num_accepted=0,
            tokens=pack_token_ids(told),
            finish=finish if is_last else None,
            logprobs=logprobs[position * size : end * size],
        )
        if is_last:
            return
        position = end
    if finish is not None:
        yield Verdict(channel, position, 0, b"", finish=finish)


def told_first(
    results: list[StreamResult],
) -> tuple[list[StreamResult], list[StreamResult]]:
    """What is told before the next round starts, and what is told while it runs.

    The devices with the fewest streams come first, so that none makes another wait by having many.
    A device that is alone has its next round the sooner, and so has a round of very many streams.
    """
    counts = Counter([result.stream.device for result in results[: _MOST_LOOKED_AT + 1]])
    if len(counts) < 2 or len(results) > _MOST_LOOKED_AT:
        return [], results
    in_order = sorted(results, key=lambda result: counts[result.stream.device])
    return in_order[:_MOST_FIRST], in_order[_MOST_FIRST:]


def messages_of(channel: int, result: StreamResult) -> list[PromptLogprobs | Verdict | Error]:
    """What a board is told about its stream after a round; before the first Verdict its prompt."""
    if result.failure is not None:
        return [_failed(channel, result.stream, result.failure)]
    verdict = verdict_of(channel, result)
    if result.settled.position:
        return [verdict]
    return [*_told_of_prompt(channel, result.stream.logprobs.prompt), verdict]


def verdict_of(channel: int, result: StreamResult) -> Verdict:
    """What of that is about the output."""
    stream, settled = result.stream, result.settled
    is_open = stream.finish is None
    # Else the board sends as it drafts, because no round waits.
    is_chunked = stream.request.mode == "rejection" or stream.awaited_seconds > 0
    draft_length = stream.draft_length if is_chunked else 0
    return Verdict(
        channel=channel,
        position=settled.position,
        num_accepted=settled.num_accepted,
        tokens=pack_token_ids(settled.own_token_ids),
        window=stream.window if is_open else 0,
        draft_length=draft_length if is_open else 0,
        finish=stream.finish,
        cached_prefix_tokens=(stream.cached_prefix_tokens or 0) if settled.position == 0 else 0,
        logprobs=settled.logprobs,
        num_forced=settled.num_forced,
        least_survival=stream.estimates.chances.survival_to_tell() if is_open else 0,
        rests=stream.rests and is_open,
    )


def _told_of_prompt(channel: int, logprobs: bytes) -> Iterator[PromptLogprobs]:
    for start in range(0, len(logprobs), PART_BYTES):
        yield PromptLogprobs(channel, logprobs[start : start + PART_BYTES])


def _failed(channel: int, stream: Stream, failure: ItemFailure) -> Error:
    """A form that leads nowhere is the client's, who is told the field that asks for it."""
    grammar = stream.request.grammar
    if failure is ItemFailure.GRAMMAR and grammar is not None:
        return Error(ErrorCode.REQUEST, f"{grammar.field}: {failure}", channel, grammar.field)
    return Error(ErrorCode.MODEL, failure, channel)
