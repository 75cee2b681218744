"""A calibrated world as the files that `simulate` reads. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from verifier.recording.calibration import LEAST_TESTED, Calibration, FittedBoard
from verifier.recording.lines import SettingValue
from verifier.recording.position_trace import Trace

_NEVER_RIGHT = 0.01  # of a board of which next to nothing was tested


def trace_name(stem: str, board: int) -> str:
    """The file of a board's trace, by its place."""
    return f"{stem}.trace{board + 1}.json"


def scenario_files(
    calibration: Calibration, rounds: Mapping[str, SettingValue], stem: str, shows: str
) -> dict[str, bytes]:
    """What the files hold, by their names: `stem`.toml and the traces that it names.

    Beside them, where any was answered, the requests, which a world of many verifiers replays.
    """
    files = {
        trace_name(stem, number): msgspec.json.encode(_traced(board.trace)) + b"\n"
        for number, board in enumerate(calibration.boards)
        if has_trace(board)
    }
    if calibration.requests:
        asked = [(round(at, 3), *lengths) for at, *lengths in calibration.requests]
        files[f"{stem}.requests.json"] = msgspec.json.encode(asked) + b"\n"
    return {f"{stem}.toml": _text(calibration, rounds, stem, shows).encode(), **files}


def _text(
    calibration: Calibration, rounds: Mapping[str, SettingValue], stem: str, shows: str
) -> str:
    target = calibration.target
    lines = [
        "[scenario]",
        f"shows = {_value(shows)}",
        f"seconds = {max(calibration.seconds, 0.1):.3f}",
        "",
        "[target]",
        f"fixed_milliseconds = {1e3 * target.fixed_seconds:.4f}",
        f"token_milliseconds = {1e3 * target.token_seconds:.5f}",
        f"jitter = {target.jitter:.4f}",
    ]
    if target.long_round_tokens is not None:
        lines += [
            f"long_round_tokens = {target.long_round_tokens}",
            f"long_round_token_milliseconds = {1e3 * target.long_token_seconds:.5f}",
        ]
    if rounds:
        lines += ["", "[rounds]", *(f"{key} = {_value(value)}" for key, value in rounds.items())]
    for number, board in enumerate(calibration.boards):
        lines += ["", f"[boards.{_value(board.device)}]", *_board(board, trace_name(stem, number))]
    return "\n".join(lines) + "\n"


def has_trace(board: FittedBoard) -> bool:
    """Whether enough was tested to be replayed."""
    return board.num_tested >= LEAST_TESTED


def _traced(trace: Trace) -> Sequence[int | tuple[int, int]]:
    """Pairs with how sure the board was, where it told."""
    if not any(trace.confidences):
        return trace.bits
    return tuple(zip(trace.bits, trace.confidences, strict=True))


def _board(board: FittedBoard, trace: str) -> Iterator[str]:
    if has_trace(board):
        yield f"trace = {_value(trace)}"
    else:
        yield f"acceptance = {_NEVER_RIGHT}  # {board.num_tested} draft tokens were tested"
    if board.draft_tokens_per_second is not None:
        yield f"draft_tokens_per_second = {board.draft_tokens_per_second:.3f}"
    if board.round_trip_seconds is not None:
        yield f"round_trip_milliseconds = {1e3 * board.round_trip_seconds:.3f}"
    yield f"mode = {_value(board.mode)}"
    yield f"streams = {board.num_streams}"
    yield f"prompt_tokens = {board.prompt_tokens}"
    yield f"output_tokens = {board.output_tokens}"
    yield f"think_seconds = {board.think_seconds:.3f}"
    yield f"joins_at_seconds = {board.joins_at_seconds:.3f}"
    if board.leaves_at_seconds is not None:
        yield f"leaves_at_seconds = {board.leaves_at_seconds:.3f}"


def _value(value: SettingValue) -> str:
    """As TOML; its strings, numbers and truths are JSON's."""
    return json.dumps(value, ensure_ascii=False)
