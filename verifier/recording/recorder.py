"""Writes down what a running verifier does, in a thread of its own.

The event loop only puts values aside, 1.3 us for a stream's part in a round. This
module must never keep a token of a text, and a disk that is full must never end a stream.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import msgspec

from shared.errors import ConfigError
from verifier.engine.engine import RoundReport
from verifier.recording.lines import (
    VERSION,
    Begin,
    Boards,
    BoardSpeed,
    Line,
    RoundEnd,
    SettingValue,
    StreamBegin,
    StreamEnd,
    StreamPart,
)
from verifier.recording.parts import part_of, prompt_tokens_of
from verifier.rounds.planner import StreamResult
from verifier.streams.estimates import DeviceEstimates

logger = logging.getLogger(__name__)

LINES_AT_ONCE = 256
SPEEDS_EVERY_SECONDS = 10.0
MOST_BYTES = 1 << 30  # a day of 8 streams in rounds of 50 ms has some 200 MB


class Recorder:
    """Implements `RoundWatcher`; the rounds of one service, until `close`."""

    def __init__(self, file: IO[bytes], begin: Begin, most_bytes: int = MOST_BYTES) -> None:
        """`file` is closed by `close`; nothing is written beyond `most_bytes`."""
        self._file = file
        self._began_at = time.monotonic()
        self._room = most_bytes
        self._lines: list[Line] = [begin]
        self._parts: list[StreamPart] = []
        self._open: set[int] = set()
        self._estimates: dict[str, DeviceEstimates] = {}
        self._speeds_at = 0.0
        self._encoder = msgspec.json.Encoder()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="goodspeed-recorder")

    def observe_result(self, result: StreamResult) -> None:
        """See `RoundWatcher`."""
        stream, settled = result.stream, result.settled
        number = stream.number
        if number not in self._open:
            self._open.add(number)
            self._estimates[stream.device] = stream.device_estimates
            prompt_tokens, mode = len(stream.request.prompt_ids), stream.request.mode
            opened_at = max(stream.opened_at - self._began_at, 0.0)
            self._lines.append(StreamBegin(opened_at, number, stream.device, mode, prompt_tokens))
        self._parts.append(part_of(stream, settled))
        if stream.finish is not None:
            self._open.discard(number)
            at = time.monotonic() - self._began_at
            self._lines.append(StreamEnd(at, number, stream.finish.reason))

    def observe_round(self, report: RoundReport) -> None:
        """See `RoundWatcher`."""
        at, round_ = time.monotonic() - self._began_at, report.round_
        self._lines.append(
            RoundEnd(
                at_seconds=at,
                total_seconds=report.total_seconds,
                target_seconds=report.forward_seconds + report.sampling_seconds,
                num_tokens=round_.num_tokens,
                chunk_tokens=sum(map(prompt_tokens_of, round_.items)),
                context_tokens=round_.context_tokens,
                parts=tuple(self._parts),
            )
        )
        self._parts.clear()
        if at >= self._speeds_at + SPEEDS_EVERY_SECONDS:
            self._tell_speeds(at)
        if len(self._lines) >= LINES_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Write what is left; waits for the disk."""
        self._tell_speeds(time.monotonic() - self._began_at)
        self._flush()
        self._thread.submit(self._file.close)
        self._thread.shutdown()

    def _tell_speeds(self, at: float) -> None:
        self._speeds_at = at
        speeds = {
            device: BoardSpeed(estimates.speed.round_trip_seconds, _token_seconds(estimates))
            for device, estimates in self._estimates.items()
        }
        self._lines.append(Boards(at, speeds))

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        if self._room > 0:
            self._thread.submit(self._write, lines)

    def _write(self, lines: Sequence[Line]) -> None:
        if self._room <= 0:
            return
        try:
            packed = self._encoder.encode_lines(lines)
            if len(packed) > self._room:
                logger.warning("the recording %s is full and ends here", self._file.name)
                self._room = 0
                return
            self._room -= len(packed)
            self._file.write(packed)
            self._file.flush()
        except OSError as error:
            logger.warning("the recording %s ends here: %s", self._file.name, error)
            self._room = 0


def _token_seconds(estimates: DeviceEstimates) -> float | None:
    return estimates.speed.draft_token_seconds or None


def check_can_record(path: Path) -> None:
    """Before a model is loaded for it.

    Raises:
        ConfigError: there is a file already, or none can be made there.
    """
    _new_file(path).close()
    path.unlink()


def start_recording(path: Path, target_model: str, rounds: dict[str, SettingValue]) -> Recorder:
    """A recorder that writes to a new file.

    Raises:
        ConfigError: there is one already, or it cannot be made.
    """
    return Recorder(_new_file(path), Begin(VERSION, target_model, time.time(), rounds))


def _new_file(path: Path) -> IO[bytes]:
    try:
        return path.open("xb")
    except FileExistsError as error:
        sentence = f"--record: {path} is there already; name another file"
        raise ConfigError((sentence,)) from error
    except OSError as error:
        sentence = f"--record: {path} cannot be written: {error.strerror}"
        raise ConfigError((sentence,)) from error
