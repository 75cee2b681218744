"""How many streams a board needs to find out which of two drafts is faster, over real sockets.

`python -m tests.benchmarks.bench_draft_choice [--repeats N]`: scripted target (40 ms a round) and
drafts that agree with it more or less, two streams at once, 64 greedy tokens each. Prints, for each
pair of drafts, how often the candidate led in the end and after how many streams it was decided.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import statistics
import tempfile
from pathlib import Path

from edge_agent.generation.assigned_drafts import LoadedDraft
from edge_agent.generation.generation import GenerationRequest
from shared.protocol.messages import AssignedDraft
from shared.speculation.sampling import SamplingParameters
from tests.support.ends.loopback import chat, generate, running_agent, running_verifier
from tests.support.ends.scripted import board, scripted_service
from tests.support.ends.waiting import eventually
from verifier.drafts.draft_store import DraftStore
from verifier.drafts.kept_draft import KeptDraft
from verifier.engine.device_terms import AllTerms, DeviceTerms
from verifier.server.drafts.draft_shelf import DraftShelf

ROUND_SECONDS = 0.04
STREAMS_AT_ONCE = 2
MOST_STREAMS = 200
# How often the board's own draft and the candidate differ from the target.
PAIRS = ((0.6, 0.1), (0.1, 0.6), (0.4, 0.2), (0.2, 0.4), (0.3, 0.3))


def describe(path: Path, sha256: str, num_bytes: int) -> KeptDraft:
    """Of a file that is none."""
    return KeptDraft(sha256, num_bytes, "scripted")


async def decide(own: float, candidate: float, seed: int, directory: Path) -> tuple[bool, int]:
    """Whether the candidate leads in the end, and after how many streams that was so."""

    async def fetch(draft: AssignedDraft, token: str, tls: ssl.SSLContext | None) -> LoadedDraft:
        return LoadedDraft(board(candidate), 0.001)

    store = DraftStore(directory / "drafts")
    (directory / "candidate").write_bytes(b"GGUF")
    store.add("candidate", directory / "candidate", describe)
    shelf = DraftShelf(lambda path: None, bytes_per_second=1e9, store=store)
    service = scripted_service(delay_seconds=lambda num_tokens: ROUND_SECONDS)
    async with (
        running_verifier(service, drafts=shelf) as verifier,
        running_agent(verifier, board(own), fetch_draft=fetch) as agent,
    ):
        assigned, device = verifier.server.assigned_drafts, service.device("board")
        assert assigned is not None
        assigned.take_over(AllTerms({"board": DeviceTerms(drafts=("candidate",))}))
        await eventually(lambda: len(device.held) == 1, 60.0)
        num_streams = 0
        while device.choice.standing.candidate is not None and num_streams < MOST_STREAMS:
            requests = [
                GenerationRequest(
                    messages=chat(f"hi {seed} {num_streams + i}"),
                    sampling=SamplingParameters(temperature=0.0),
                    seed=seed,
                    max_tokens=64,
                )
                for i in range(STREAMS_AT_ONCE)
            ]
            await asyncio.gather(*(generate(agent, request) for request in requests))
            num_streams += STREAMS_AT_ONCE
        return device.choice.standing.leader != b"", num_streams


def main() -> None:
    """Print a line for each pair."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--repeats", type=int, default=5)
    repeats = options.parse_args().repeats
    for own, candidate in PAIRS:
        found = []
        for seed in range(repeats):
            with tempfile.TemporaryDirectory() as directory:
                found.append(asyncio.run(decide(own, candidate, seed, Path(directory))))
        led = sum(leads for leads, _ in found)
        streams = [number for _, number in found]
        print(
            f"own differs {own:.0%}, candidate {candidate:.0%}: candidate led {led} of {repeats} "
            f"times, after {statistics.median(streams):.0f} streams "
            f"({min(streams)} to {max(streams)})",
            flush=True,
        )


if __name__ == "__main__":
    main()
