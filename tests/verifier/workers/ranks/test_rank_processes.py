"""Ranks get the rounds of rank 0, end with it, and it with them; nothing waits for ever."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.errors import LinkLost
from tests.verifier.workers.test_remote_target import ROUND
from verifier.target.round import Round
from verifier.workers.orders import WorkerOrder
from verifier.workers.ranks.following import LOST_STATUS
from verifier.workers.ranks.rank_processes import RankProcesses

PATIENCE_SECONDS = 60.0
# A target that writes down what it is given, and how long each round takes it.
_RANK = """
import sys, time
from pathlib import Path
from verifier.workers.ranks import following
from verifier.workers.orders import unpack_order

class Target:
    vocab_size, num_blocks, block_tokens = 100_000, 1000, 16
    def follow(self, round_):
        with notes.open("a") as file:
            print(place.rank, round_.num_tokens, *round_.items[0].block_table, file=file)
        time.sleep(settings["round_seconds"])

connected, place = following.place_of(sys.argv[1:])
following.end_with_rank_0(connected)
settings = unpack_order(sys.stdin.buffer.readline()).settings
following.HANG_SECONDS = settings["hang_seconds"]
notes = Path(settings["notes"] + str(place.rank))
notes.touch()
following.follow(connected, Target())
"""
_COMMAND = (sys.executable, "-c", _RANK)
_RANK_0 = """
import json, sys, time
from verifier.workers.orders import WorkerOrder
from verifier.workers.ranks.rank_processes import RankProcesses
processes = RankProcesses(3, sys.argv[1:-1], WorkerOrder("w", "", json.loads(sys.argv[-1])), {})
print(*processes.process_ids, flush=True)
time.sleep(600)
"""


def settings_of(tmp_path: Path, *, round_seconds: float = 0.0, hang: float = 60.0) -> WorkerOrder:
    notes = str(tmp_path / "rank")
    settings = {"notes": notes, "round_seconds": round_seconds, "hang_seconds": hang}
    return WorkerOrder("worker 0", "", settings)


@contextmanager
def ranks_of(order: WorkerOrder) -> Iterator[tuple[RankProcesses, queue.SimpleQueue[int]]]:
    lost: queue.SimpleQueue[int] = queue.SimpleQueue()
    processes = RankProcesses(3, _COMMAND, order, os.environ, lost.put)
    notes = [Path(f"{order.settings['notes']}{rank}") for rank in (1, 2)]
    try:
        wait_for(lambda: all(note.exists() for note in notes))
        yield processes, lost
    finally:
        assert processes.place.listening is not None
        os.close(processes.place.listening)
        processes.close()


def wait_for(condition: object) -> None:
    assert callable(condition)
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def is_running(process_id: int) -> bool:
    try:
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z"


def test_every_rank_gets_the_rounds_in_their_order(tmp_path: Path) -> None:
    order = settings_of(tmp_path)
    short = Round(ROUND.items[:1])
    with ranks_of(order) as (processes, lost):
        assert (0, 3) == (processes.place.rank, processes.place.num_ranks)
        assert processes.place.tell is not None
        for round_ in (ROUND, short, ROUND):
            processes.place.tell(round_)
        expected = [
            [str(round_.num_tokens), *map(str, round_.items[0].block_table)]
            for round_ in (ROUND, short, ROUND)
        ]
        for rank in (1, 2):
            note = tmp_path / f"rank{rank}"
            wait_for(lambda note=note: len(note.read_text().splitlines()) == 3)
            lines = [line.split() for line in note.read_text().splitlines()]
            assert [[str(rank), *words] for words in expected] == lines
    assert lost.empty()


def test_a_rank_that_ends_is_told_at_once_and_gets_no_round(tmp_path: Path) -> None:
    with ranks_of(settings_of(tmp_path)) as (processes, lost):
        os.kill(processes.process_ids[1], signal.SIGKILL)
        assert 2 == lost.get(timeout=PATIENCE_SECONDS)
        with pytest.raises(LinkLost):
            processes.tell(ROUND)
    assert not any(map(is_running, processes.process_ids))


def test_a_rank_that_hangs_in_a_round_ends(tmp_path: Path) -> None:
    with ranks_of(settings_of(tmp_path, round_seconds=600.0, hang=0.5)) as (processes, lost):
        processes.tell(ROUND)
        assert lost.get(timeout=PATIENCE_SECONDS) in (1, 2)


def test_signals_to_all_are_for_rank_0_alone(tmp_path: Path) -> None:
    with ranks_of(settings_of(tmp_path)) as (processes, lost):
        for process_id in processes.process_ids:
            os.kill(process_id, signal.SIGTERM)
            os.kill(process_id, signal.SIGINT)
        processes.tell(ROUND)
        wait_for(lambda: (tmp_path / "rank2").read_text())
    assert lost.empty()


@pytest.mark.parametrize("kills_rank_0", [True, False])
def test_all_end_when_one_does(tmp_path: Path, kills_rank_0: bool) -> None:
    settings = json.dumps(dict(settings_of(tmp_path).settings))
    rank_0 = subprocess.Popen(
        [sys.executable, "-c", _RANK_0, *_COMMAND, settings], stdout=subprocess.PIPE, text=True
    )
    assert rank_0.stdout is not None
    with rank_0.stdout:
        ranks = [int(word) for word in rank_0.stdout.readline().split()]
    wait_for(lambda: (tmp_path / "rank1").exists() and (tmp_path / "rank2").exists())
    os.kill(rank_0.pid if kills_rank_0 else ranks[0], signal.SIGKILL)
    status = rank_0.wait(PATIENCE_SECONDS)
    assert (-signal.SIGKILL if kills_rank_0 else LOST_STATUS) == status
    wait_for(lambda: not any(map(is_running, ranks)))
