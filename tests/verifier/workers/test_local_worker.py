"""A process of this machine is started, reached, started anew, and ends with its keeper."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from shared.errors import LinkLost, ModelError
from tests.support.ends.workers import SECRET, local_worker
from tests.verifier.workers.test_remote_target import ROUND
from verifier.target.target import TargetLost
from verifier.workers import handshake
from verifier.workers.kept_process import END_SECONDS
from verifier.workers.local_worker import MOST_FAILED_STARTS
from verifier.workers.remote_target import LOOK_SECONDS, RemoteTarget

_KEEPER = """
import sys, time
from tests.support.ends.workers import local_worker
worker = local_worker()
worker.reach()
print(worker.process_id, flush=True)
time.sleep(60)
"""


def test_a_worker_is_reached_when_it_has_loaded_and_is_started_anew_when_it_died() -> None:
    worker = local_worker(load_seconds=0.3)
    try:
        target = worker.reach()
        first = worker.process_id
        assert first is not None
        assert "worker 0" == target.facts.name
        assert first == target.facts.process_id
        assert target.run(ROUND).items
        os.kill(first, signal.SIGKILL)
        with pytest.raises(TargetLost):
            target.run(ROUND)
        again = None
        while again is None:  # its end may not be known yet
            try:
                again = worker.reach(target)
            except LinkLost:
                continue
        assert worker.process_id not in (None, first)
        assert again.run(ROUND).items
        again.close("the test is over")
    finally:
        worker.close()


def test_the_secret_stands_on_no_command_line_and_in_no_environment() -> None:
    worker = local_worker()
    try:
        worker.reach().close("the test is over")
        for name in ("cmdline", "environ"):
            assert SECRET.encode() not in Path(f"/proc/{worker.process_id}/{name}").read_bytes()
    finally:
        worker.close()


def test_a_worker_that_dies_at_every_start_is_told_of_in_a_sentence_and_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Its socket lives on here, and takes connections that are never greeted.
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 600.0)
    worker = local_worker(fails=True)
    try:
        sentences = []
        for _ in range(MOST_FAILED_STARTS):
            with pytest.raises(LinkLost) as caught:
                worker.reach()
            sentences.append(str(caught.value))
        assert "worker 0 ended with status 3 before it served" == sentences[0]
        assert "worker 0 ended with status 3 before it served, 3 times" in sentences[-1]
    finally:
        worker.close()


def test_facts_that_are_refused_are_told_and_tried_again() -> None:
    worker = local_worker()

    def refuse(target: RemoteTarget) -> None:
        raise ModelError(f"{target.facts.name} has another target")

    worker._check = refuse
    try:
        with pytest.raises(ModelError, match="worker 0 has another target"):
            worker.reach()
    finally:
        worker.close()


def test_a_worker_that_dies_while_it_loads_is_seen_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 600.0)
    worker = local_worker(load_seconds=600)
    reached: list[LinkLost] = []

    def reach() -> None:
        with pytest.raises(LinkLost, match="ended with status -9 before it served") as caught:
            worker.reach()
        reached.append(caught.value)

    waiting = threading.Thread(target=reach, name="test-reach")
    waiting.start()
    try:
        while worker.process_id is None:
            time.sleep(0.01)
        time.sleep(2 * LOOK_SECONDS)
        os.kill(worker.process_id, signal.SIGKILL)
        waiting.join(20)
        assert reached
    finally:
        worker.close()


def test_closing_ends_a_worker_that_still_loads_and_what_waits_for_it() -> None:
    worker = local_worker(load_seconds=60)
    caught: list[LinkLost] = []

    def reach() -> None:
        try:
            worker.reach()
        except LinkLost as error:
            caught.append(error)

    waiting = threading.Thread(target=reach, name="test-reach")
    waiting.start()
    while worker.process_id is None:
        time.sleep(0.01)
    worker.close()
    waiting.join(20)
    assert not waiting.is_alive()
    assert 1 == len(caught)


def test_a_worker_ends_when_its_keeper_is_killed() -> None:
    keeper = subprocess.Popen(
        [sys.executable, "-c", _KEEPER],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert keeper.stdout is not None
    with keeper.stdout:
        number = int(keeper.stdout.readline())
        assert Path(f"/proc/{number}").exists()
        keeper.kill()
        keeper.wait()
        deadline = time.monotonic() + 20
        while Path(f"/proc/{number}").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not Path(f"/proc/{number}").exists()


def test_a_worker_that_is_reached_ends_at_once_with_its_source() -> None:
    worker = local_worker()
    worker.reach()
    began = time.monotonic()
    worker.close()
    assert time.monotonic() - began < END_SECONDS


def test_a_worker_that_is_left_alone_serves_on_until_its_verifier_leaves() -> None:
    worker = local_worker()
    try:
        target = worker.reach()
        assert target.run(ROUND).items  # it serves, from the worker's view, too
        process = worker._process._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        for _ in range(3):
            assert target.run(ROUND).items
            time.sleep(0.1)
        target.close("the verifier leaves")
        process.wait(10)
    finally:
        worker.close()
