"""Text of targets that are split over ranks, each a process of its own on a CPU.

All ranks have all logits, so each plays the same streams and no round has to be sent. One program
imports what they need and forks them, as importing takes longer than all else.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class RankedText:
    """Streams of one target, with drafts cut from `outputs`."""

    path: str
    num_ranks: int
    prompts: Sequence[Sequence[int]]
    outputs: Sequence[Sequence[int]]
    num_tokens: int
    settings: Mapping[str, object] = field(default_factory=dict)  # of the section `target`


def texts_of_ranks(wanted: Sequence[RankedText]) -> list[list[list[list[int]]]]:
    """Of each target what each rank says the streams' texts are."""
    command = [sys.executable, "-m", "tests.support.models.rank_program"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        command,
        input=json.dumps([asdict(one) for one in wanted]),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=environment,
        cwd=Path(__file__).parents[3],
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    texts: list[list[list[list[int]]]] = json.loads(ended.stdout.splitlines()[-1])
    return texts


def main() -> None:
    """Read what is wanted, write what the ranks say."""
    import verifier.torch_target.loading.target_loading  # noqa: F401 (before the ranks are forked)

    wanted = [RankedText(**one) for one in json.load(sys.stdin)]
    texts = [_of_all_ranks(one) for one in wanted]
    sys.stdout.write(f"\n{json.dumps(texts)}\n")


def _of_all_ranks(wanted: RankedText) -> list[list[list[int]]]:
    fork = multiprocessing.get_context("fork")
    ends = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for rank in range(wanted.num_ranks):
            ours, theirs = fork.Pipe(duplex=False)
            fork.Process(target=_play, args=(wanted, rank, listening, theirs), daemon=True).start()
            theirs.close()
            ends.append(ours)
    return [end.recv() for end in ends]


def _play(wanted: RankedText, rank: int, listening: socket.socket, end: Any) -> None:
    from shared.speculation.sampling import GREEDY
    from tests.support.models.drafted_streams import DraftedStreams
    from tests.support.models.target_loading import load_on_cpu
    from verifier.target.rank_place import RankPlace

    port = listening.getsockname()[1]
    own = listening.detach() if rank == 0 else None
    place = RankPlace(rank, wanted.num_ranks, port, own)
    target = load_on_cpu(Path(wanted.path), place=place, **wanted.settings).target
    prompts = [list(prompt) for prompt in wanted.prompts]
    outputs = [list(output) for output in wanted.outputs]
    end.send(DraftedStreams(target, prompts, outputs, GREEDY, wanted.num_tokens).run(6))
    end.close()
    os._exit(0)


if __name__ == "__main__":
    main()
