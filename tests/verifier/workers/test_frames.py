"""Frames come whole over a real connection, however little the system takes of them at once."""

from __future__ import annotations

import socket
import threading

import pytest

from shared.errors import LinkLost
from verifier.workers.frames import at_verifier, at_worker
from verifier.workers.messages import Masks, MasksWanted


def test_what_is_not_taken_at_once_is_sent_later() -> None:
    long = Masks(1, (bytes(range(256)) * (1 << 15),))  # 8 MB: no buffer has room for it
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sending, receiving = at_verifier(ours), at_worker(theirs)
        frame = sending.frame(long)
        rest = sending.send_at_once(frame)
        assert 0 < len(rest) < len(frame)
        assert sending.send_at_once(rest) == rest  # it is full
        come: list[object] = []
        reader = threading.Thread(target=lambda: come.append(receiving.receive(20)))
        reader.start()
        sending.send_frame(rest, 20)
        reader.join()
    assert [long] == come


def test_a_short_frame_is_sent_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sending, receiving = at_worker(ours), at_verifier(theirs)
        assert not sending.send_at_once(sending.frame(MasksWanted()))
        assert MasksWanted() == receiving.receive(20)


def test_a_broken_connection_shows_when_the_rest_is_sent() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        sending = at_worker(ours)
        frame = sending.frame(MasksWanted())
        assert sending.send_at_once(frame) == frame
        with pytest.raises(LinkLost, match="broke"):
            sending.send_frame(frame, 1)
