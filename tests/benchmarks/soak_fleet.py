"""`goodspeed-agent fleet` whose boards check every text: what a greedy scripted target must write.

A stream that fails, or whose tokens are not the target's own, is an error that begins with
"stream"; errors of links, such as those of a restarted verifier, do not.

    python -m tests.benchmarks.soak_fleet --verifier wss://localhost:8443 --tokens fleet-tokens
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np

from edge_agent.cli import main as agent_main
from edge_agent.drafting.verdict import Committed
from edge_agent.fleet.stream import FleetStream
from edge_agent.generation.stream_session import StreamSession
from shared.errors import ErrorCode, GoodspeedError
from shared.protocol.messages import Error, Verdict
from tests.support.ends.scripted import TARGET

OF_A_STREAM = "stream"
AT_THE_END = "the load test is over"  # which streams in hand are told


def main(arguments: list[str]) -> None:
    """Run the fleet's command line."""
    with checked_texts():
        agent_main(["fleet", *arguments])


@contextmanager
def checked_texts() -> Iterator[None]:
    """Let each stream of a fleet check its text at its end, within the block."""
    receive = FleetStream.receive

    def checked(stream: FleetStream, message: Any, num_bytes: int, now: float) -> Committed | None:
        committed = receive(stream, message, num_bytes, now)
        if isinstance(message, Error) and message.code != ErrorCode.PAUSED:
            stream._tally.record_failure(f"{OF_A_STREAM} ended: {message.sentence}")
        if isinstance(message, Verdict) and message.finish is not None:
            _check(stream)
        return committed

    def failed(stream: FleetStream, error: GoodspeedError) -> None:
        StreamSession.fail(stream, error)
        if str(error) == AT_THE_END:
            return
        stream._tally.record_failure(f"{OF_A_STREAM} failed: {error}")

    with patch.object(FleetStream, "receive", checked), patch.object(FleetStream, "fail", failed):
        yield


def _check(stream: FleetStream) -> None:
    num_tokens = stream.request.max_tokens or 0
    outputs = list(stream.stream.output_ids)
    tokens = list(stream.request.prompt_ids)
    for position in range(num_tokens):
        tokens.append(int(np.argmax(TARGET.logits(tokens))))
        if outputs[position : position + 1] != tokens[-1:]:
            stream._tally.record_failure(f"{OF_A_STREAM} is wrong from token {position} on")
            return
    if len(outputs) != num_tokens:
        stream._tally.record_failure(f"{OF_A_STREAM} has {len(outputs)} of {num_tokens} tokens")


if __name__ == "__main__":
    main(sys.argv[1:])
