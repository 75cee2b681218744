"""Records in the journal's native protocol, on a datagram socket in its place."""

from __future__ import annotations

import io
import logging
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.daemon.log_output.fields import log_fields
from shared.daemon.log_output.journal import JournalHandler, pack, takes_journal

FORGED = "on\nPRIORITY=0\n<0>forged"


class Journal:
    """The other end: takes datagrams apart as journald does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(5)

    def entry(self) -> dict[str, str]:
        rest, fields = self._socket.recv(1 << 20), {}
        while rest:
            line, _, rest = rest.partition(b"\n")
            name, equals, value = line.partition(b"=")
            if not equals:
                (length,) = struct.unpack("<Q", rest[:8])
                value, rest = rest[8 : 8 + length], rest[8 + length + 1 :]
            assert name.decode() not in fields
            fields[name.decode()] = value.decode()
        return fields

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "socket")
    yield journal
    journal.close()


@pytest.fixture
def logger(journal: Journal) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger of its own, and what goes to standard error in the journal's place."""
    errors = io.StringIO()
    handler = JournalHandler(errors, "goodspeed-verifier", journal.path)
    logger = logging.getLogger("tests.journal")
    logger.propagate, logger.handlers = False, [handler]
    logger.setLevel(logging.INFO)
    yield logger, errors
    logger.handlers = []
    handler.close()


Logger = tuple[logging.Logger, io.StringIO]


def test_a_record_has_its_priority_and_whom_it_is_about(journal: Journal, logger: Logger) -> None:
    with log_fields(device="kitchen"), log_fields(stream=3):
        logger[0].warning("channel %d is late", 3)
    entry = journal.entry()
    expected = {
        "MESSAGE": "channel 3 is late",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "goodspeed-verifier",
        "GOODSPEED_LOGGER": "tests.journal",
        "GOODSPEED_DEVICE": "kitchen",
        "GOODSPEED_STREAM": "3",
    }
    assert expected == {name: entry[name] for name in expected}
    assert entry["CODE_FILE"].endswith("test_journal.py")
    assert "" == logger[1].getvalue()


def test_fields_end_with_their_block(journal: Journal, logger: Logger) -> None:
    with log_fields(device="kitchen"):
        pass
    logger[0].info("on")
    assert "GOODSPEED_DEVICE" not in journal.entry()


def test_no_text_of_a_peer_forges_a_field(journal: Journal, logger: Logger) -> None:
    logger[0].info("drafting with %s", FORGED)
    entry = journal.entry()
    assert "6" == entry["PRIORITY"]
    assert r"drafting with on\nPRIORITY=0\n<0>forged" == entry["MESSAGE"]


def test_a_traceback_is_part_of_its_record(journal: Journal, logger: Logger) -> None:
    try:
        raise ValueError(FORGED)
    except ValueError:
        logger[0].exception("it failed")
    message = journal.entry()["MESSAGE"]
    assert message.startswith("it failed\nTraceback")
    assert "ValueError: on\nPRIORITY=0" in message


def test_what_the_journal_does_not_take_goes_to_standard_error(
    journal: Journal, logger: Logger
) -> None:
    journal.close()
    journal.path.unlink()
    logger[0].error("on")
    assert "<3>on\n" == logger[1].getvalue()


def test_values_of_several_lines_carry_their_length() -> None:
    assert b"A=b\n" == pack({"A": "b"})
    assert b"A\n\x03\0\0\0\0\0\0\0b\nc\n" == pack({"A": "b\nc"})


def test_the_journal_is_spoken_to_where_standard_error_goes_there(journal: Journal) -> None:
    assert takes_journal({"JOURNAL_STREAM": "8:1"}, journal.path)
    assert not takes_journal({}, journal.path)
    assert not takes_journal({"JOURNAL_STREAM": "8:1"}, journal.path.with_name("none"))
