"""A target at a worker answers as one in this process, or is lost at once and for good."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import nullcontext

import msgspec
import numpy as np
import pytest

from shared.errors import AuthRejected, HandshakeRejected, LinkLost
from shared.speculation.logit_processors import LogitProcessors
from shared.speculation.sampling import GREEDY, SamplingParameters
from shared.speculation.sparse_row import SparseRow
from tests.support.ends.scripted import TARGET, VOCAB_SIZE
from tests.support.ends.workers import SECRET, ThreadWorker, scripted_facts, worker
from tests.verifier.engine.test_round_run import NoMasks, TellingMasks
from verifier.streams.token_census import TokenCensus
from verifier.target.processing import Processing, SeenTokens
from verifier.target.round import DraftCheck, ItemFailure, Round, RoundItem, RoundOutcome
from verifier.target.scripted_target import ScriptedTarget
from verifier.target.target import DeviceLost, OutOfMemory, TargetLost
from verifier.workers import handshake
from verifier.workers.frames import at_worker
from verifier.workers.messages import VERSION, Challenge, Facts
from verifier.workers.remote_target import RemoteTarget, RoundFailed, WorkerAddress, connect

SAMPLED = SamplingParameters(0.9)


def check(drafts: tuple[int, ...] = (), mode: str = "coupled", seed: int = 5) -> DraftCheck:
    rows: tuple[SparseRow, ...] = ()
    if mode == "rejection":
        rows = tuple(
            SparseRow(np.array([i, i + 1], np.uint32), np.array([9, 3], np.uint16)) for i in drafts
        )
    sampling = GREEDY if mode == "greedy" else SAMPLED
    kind = "rejection" if mode == "rejection" else "coupled"
    return DraftCheck(drafts, rows, kind, sampling, seed, 0, True)  # type: ignore[arg-type]


def round_of(*checks: DraftCheck) -> Round:
    return Round(
        tuple(
            RoundItem(i, (9, 8, 7, *one.draft_token_ids), 0, (2 * i, 2 * i + 1), one)
            for i, one in enumerate(checks)
        )
    )


ROUND = round_of(check(), check((4, 5), "greedy"), check((6, 7), "rejection", seed=11))


class Failing(ScriptedTarget):
    """Raises what it is told to."""

    error: Exception | None = None

    def run(self, round_: Round) -> RoundOutcome:
        if self.error is not None:
            raise self.error
        return super().run(round_)


def items_of(target: ScriptedTarget | RemoteTarget, round_: Round = ROUND) -> object:
    return target.run(round_).items


def test_outcomes_are_those_of_the_same_target_in_this_process() -> None:
    with worker() as running:
        target = running.connect()
        rounds = [round_of(*[check((3,), "rejection", s), check((), seed=s)]) for s in range(20)]
        for round_ in (ROUND, *rounds):
            assert items_of(ScriptedTarget(TARGET), round_) == items_of(target, round_)
        assert VOCAB_SIZE == target.vocab_size
        assert not target.is_lost()
        target.close("the test is over")


def test_masks_of_grammars_reach_the_worker() -> None:
    masks = TellingMasks()
    only_even = np.zeros((3, VOCAB_SIZE // 32), np.uint32)
    only_even[:] = 0x55555555
    masks.wait = lambda deadline: only_even  # type: ignore[method-assign]
    held = [msgspec.structs.replace(check((4, 6)), masks=one) for one in (masks, NoMasks())]
    round_ = round_of(check((4,)), *held)
    with worker() as running:
        target = running.connect()
        outcome = target.run(round_)
        target.close("the test is over")
    assert ScriptedTarget(TARGET).run(round_).items == outcome.items
    _, masked, never = outcome.items
    assert masked is not None
    assert never is not None
    assert masked.token_id is not None
    assert 0 == masked.token_id % 2
    assert ItemFailure.GRAMMAR is never.failure
    assert [] == masks.told  # that is the engine's part


def test_a_round_that_is_sent_ahead_runs_before_its_outcome_is_asked_for() -> None:
    runs = threading.Event()

    class Telling(ScriptedTarget):
        def run(self, round_: Round) -> RoundOutcome:
            runs.set()
            return super().run(round_)

    with worker(Telling(TARGET)) as running:
        target = running.connect()
        for _ in range(3):
            runs.clear()
            assert target.send_ahead(ROUND)
            assert runs.wait(10)
            assert items_of(ScriptedTarget(TARGET)) == items_of(target)
        target.close("the test is over")


def test_of_a_round_with_masks_more_is_to_be_done_than_to_send_it() -> None:
    round_ = round_of(msgspec.structs.replace(check((4, 6)), masks=NoMasks()))
    with worker() as running:
        target = running.connect()
        assert not target.send_ahead(round_)
        assert ScriptedTarget(TARGET).run(round_).items == target.run(round_).items
        target.close("the test is over")


def test_a_round_that_cannot_be_sent_ahead_loses_the_target_when_it_is_run() -> None:
    with worker() as running:
        target = running.connect()
        target._framed.shut_down()
        assert not target.send_ahead(ROUND)
        with pytest.raises(TargetLost, match="broke"):
            target.run(ROUND)


def test_what_the_target_raises_is_raised_here_and_the_worker_goes_on() -> None:
    failing = Failing(TARGET)
    with worker(failing) as running:
        target = running.connect()
        for error, expected in ((OutOfMemory("full"), OutOfMemory), (ValueError("x"), RoundFailed)):
            failing.error = error
            with pytest.raises(expected):
                target.run(ROUND)
        failing.error = None
        assert items_of(ScriptedTarget(TARGET)) == items_of(target)
        target.close("the test is over")


def test_what_penalties_count_arrives_whole_with_every_round_and_connection() -> None:
    """Only what is new is sent: behind a round that failed, and to another verifier, too."""

    class Counting(Failing):
        seen: SeenTokens | None = None

        def run(self, round_: Round) -> RoundOutcome:
            asked = round_.items[0].draft_check
            self.seen = None if asked is None else asked.seen
            return super().run(round_)

    counting, census = Counting(TARGET), TokenCensus()
    processing = Processing.of(LogitProcessors(frequency_penalty=1.0), frozenset())
    with worker(counting) as running:
        for _ in range(2):
            target = running.connect()
            for number in range(6):
                census.write(7 + number % 2)
                seen = census.seen((4, 8))
                asked = msgspec.structs.replace(check((4, 8)), processing=processing, seen=seen)
                counting.error = OutOfMemory("full") if number == 2 else None
                with pytest.raises(OutOfMemory) if number == 2 else nullcontext():
                    target.run(round_of(asked))
                assert counting.seen is not None
                for field in SeenTokens.__struct_fields__:
                    expected, got = getattr(seen, field), getattr(counting.seen, field)
                    assert (expected.dtype, expected.tolist()) == (got.dtype, got.tolist())
            target.close("another one comes")


def test_a_lost_device_loses_the_target_and_ends_the_worker() -> None:
    failing = Failing(TARGET)
    failing.error = DeviceLost("fell off the bus")
    with worker(failing) as running:
        target = running.connect()
        with pytest.raises(TargetLost, match="fell off the bus"):
            target.run(ROUND)
        with pytest.raises(TargetLost, match="fell off the bus"):  # and stays lost
            target.run(ROUND)
    assert [failing.error] == running.raised


def test_a_round_that_is_late_loses_the_target_at_its_deadline() -> None:
    gate = threading.Event()

    class Slow(ScriptedTarget):
        def run(self, round_: Round) -> RoundOutcome:
            gate.wait(10)
            return super().run(round_)

    with worker(Slow(TARGET)) as running:
        target = running.connect(lambda round_: 0.2)
        started_at = time.monotonic()
        with pytest.raises(TargetLost):
            target.run(ROUND)
        seconds = time.monotonic() - started_at
        gate.set()
        assert target.is_lost()
        again = running.connect()
        assert items_of(ScriptedTarget(TARGET)) == items_of(again)  # the worker is well
        again.close("the test is over")
    assert 0.2 <= seconds < 2.0


def test_a_worker_that_ends_is_seen_without_a_round() -> None:
    with worker() as running:
        target = running.connect()
        assert not target.is_lost()
        target.end_worker("restarted")
        running.close()
        with pytest.raises(TargetLost, match="restarted"):
            target.run(ROUND)


def test_of_two_verifiers_the_one_that_was_started_later_has_the_worker() -> None:
    with worker() as running:
        before = running.connect(started_at=5)
        items_of(before)
        newest = running.connect(started_at=6)
        assert items_of(ScriptedTarget(TARGET)) == items_of(newest)
        with pytest.raises(TargetLost):
            before.run(ROUND)
        with pytest.raises(HandshakeRejected, match="serves a verifier that was started later"):
            running.connect(started_at=5)
        newest.close("its connection breaks")
        again = running.connect(started_at=6)  # the same one
        assert items_of(ScriptedTarget(TARGET)) == items_of(again)
        again.close("it ends")
        earlier = eventually_connected(running, started_at=5)  # there is no other now
        assert items_of(ScriptedTarget(TARGET)) == items_of(earlier)
        earlier.close("the test is over")


def eventually_connected(running: ThreadWorker, started_at: int) -> RemoteTarget:
    """The worker needs a moment to see that a verifier has left."""
    while True:
        try:
            return running.connect(started_at=started_at)
        except HandshakeRejected:
            time.sleep(0.01)


def test_another_secret_is_refused_and_disturbs_nothing() -> None:
    with worker() as running:
        target = running.connect()
        with pytest.raises((AuthRejected, LinkLost)):
            connect(running.address, "another secret of some length", lambda round_: 5.0)
        assert items_of(ScriptedTarget(TARGET)) == items_of(target)
        target.close("the test is over")


def test_strangers_that_say_nothing_or_nonsense_disturb_nothing() -> None:
    with worker() as running:
        silent = [socket.create_connection(running.address) for _ in range(4)]
        for content in (
            b"\0\0\0\0",
            b"GET / HTTP/1.1\r\n\r\n",
            b"\xff\xff\xff\xff",
            b"\1\0\0\0\xc0",
        ):
            with socket.create_connection(running.address) as loud:
                loud.sendall(content)
        target = running.connect()
        assert items_of(ScriptedTarget(TARGET)) == items_of(target)
        target.close("the test is over")
        for one in silent:
            one.close()


def fake_worker(talk: list[msgspec.Struct | bytes]) -> tuple[WorkerAddress, threading.Thread]:
    """Says these things, after the handshake, one for each round."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listening, listening.accept()[0] as connected:
            framed = at_worker(connected)
            handshake.admit_verifier(framed, SECRET, scripted_facts(ScriptedTarget(TARGET)))
            for message in talk:
                framed.receive(10)
                if isinstance(message, bytes):
                    connected.sendall(message)
                else:
                    framed.send(message, 10)

    thread = threading.Thread(target=serve, name="test-fake-worker")
    thread.start()
    return WorkerAddress(*listening.getsockname()[:2]), thread


@pytest.mark.parametrize(
    "answer",
    [
        b"\x05\0\0\0half",
        b"\xff\xff\xff\xff",
        b"\x01\0\0\0\xc1",
        Challenge(VERSION, bytes(32)),
    ],
    ids=["half", "oversized", "broken", "out of turn"],
)
def test_a_bad_frame_loses_the_target(answer: msgspec.Struct | bytes) -> None:
    address, thread = fake_worker([answer])
    target = connect(address, SECRET, lambda round_: 5.0)
    with pytest.raises(TargetLost):
        target.run(ROUND)
    assert target.lost_because
    thread.join(10)


def test_another_version_is_named() -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listening, listening.accept()[0] as connected:
            at_worker(connected).send(Challenge(77, bytes(32)), 5)

    thread = threading.Thread(target=serve, name="test-old-worker")
    thread.start()
    with pytest.raises(HandshakeRejected, match="77 there"):
        connect(WorkerAddress(*listening.getsockname()[:2]), SECRET, lambda round_: 5.0)
    thread.join(10)


def test_a_worker_without_the_secret_is_no_worker() -> None:
    """A program that took the worker's port cannot prove itself, whatever it says."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listening, listening.accept()[0] as connected:
            framed = at_worker(connected)
            framed.send(Challenge(VERSION, bytes(32)), 5)
            framed.receive(5)
            facts: Facts = scripted_facts(ScriptedTarget(TARGET))
            framed.send(facts, 5)

    thread = threading.Thread(target=serve, name="test-false-worker")
    thread.start()
    with pytest.raises(AuthRejected, match="the worker has another secret"):
        connect(WorkerAddress(*listening.getsockname()[:2]), SECRET, lambda round_: 5.0)
    thread.join(10)


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = WorkerAddress(*listening.getsockname()[:2])
    with pytest.raises(LinkLost, match=f"no worker answers at {address}"):
        connect(address, SECRET, lambda round_: 5.0)


def test_a_round_from_a_verifier_that_cannot_be_run_ends_its_connection_alone() -> None:
    far = Round((RoundItem(0, (1,), 0, (10**6,), check()),))
    with worker() as running:
        target = running.connect()
        with pytest.raises(TargetLost):
            target.run(far)
        again = running.connect()
        assert items_of(ScriptedTarget(TARGET)) == items_of(again)
        again.close("the test is over")
