"""A draft from the verifier is whole and checked, or not there; what was cut is gone on with."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edge_agent.models.arrival import arriving_path, forget_old_parts
from edge_agent.models.cache import recorded_sha256
from edge_agent.models.from_verifier import OfferingVerifier, pull_offer
from shared.errors import AuthRejected, LinkLost, ModelError, RemoteProtocolError
from shared.protocol.handed_drafts.draft_offers import OFFERS_PATH, DraftOffer, pack_offers
from tests.edge_agent.models.test_pull import RecordedProgress
from tests.support.programs.command import AGENT, ROOT, environment

CONTENT = b"GGUF" + os.urandom(1_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OFFER = DraftOffer("wren", len(CONTENT), SHA256)
TOKEN = f"gsd_kitchen_{'A' * 43}"


class Verifier:
    """Answers as one that offers `wren`, and may do it badly."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.cut_at: int | None = None
        self.seconds_for_a_piece = 0.0
        self.list = pack_offers([OFFER])
        self.starts: list[int] = []
        self.port = 0

    @property
    def client(self) -> OfferingVerifier:
        return OfferingVerifier(f"ws://127.0.0.1:{self.port}", TOKEN)


@contextmanager
def serving(verifier: Verifier) -> Iterator[Verifier]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                self.send_error(401)
            elif self.path == OFFERS_PATH:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(verifier.list)
            elif self.path == f"{OFFERS_PATH}/wren":
                self._send()
            else:
                self.send_error(404)

        def log_message(self, *_args: object) -> None:
            """Nothing is worth a line."""

        def _send(self) -> None:
            wanted = self.headers.get("Range", "bytes=0-")
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            verifier.starts.append(start)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(verifier.content) - start))
            self.end_headers()
            end = len(verifier.content) if verifier.cut_at is None else verifier.cut_at
            for at in range(start, end, 50_000):
                try:
                    self.wfile.write(verifier.content[at : min(at + 50_000, end)])
                except OSError:  # the board was killed
                    return
                time.sleep(verifier.seconds_for_a_piece)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    verifier.port = server.server_port
    try:
        yield verifier
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def verifier() -> Iterator[Verifier]:
    with serving(Verifier()) as served:
        yield served


def test_an_offer_becomes_a_model_with_its_checksum(verifier: Verifier, tmp_path: Path) -> None:
    progress = RecordedProgress()
    (offer,) = verifier.client.offers()
    path = pull_offer(verifier.client, offer, tmp_path, progress)
    assert CONTENT == path.read_bytes()
    assert SHA256 == recorded_sha256(path)
    assert ("downloading wren from the verifier", len(CONTENT)) == progress.stages[0]
    pull_offer(verifier.client, offer, tmp_path, progress)
    assert [0] == verifier.starts, "what is here and whole is not downloaded again"


@pytest.mark.parametrize("cut_at", [0, 1, 4, 65_536, 999_999, len(CONTENT) - 1])
def test_a_cut_is_gone_on_with_and_no_model_until_then(
    verifier: Verifier, tmp_path: Path, cut_at: int
) -> None:
    verifier.cut_at = cut_at
    path = tmp_path / "wren.gguf"
    path.write_bytes(b"GGUF of before")
    with pytest.raises(LinkLost, match="pull again to go on"):
        pull_offer(verifier.client, OFFER, tmp_path, RecordedProgress())
    assert b"GGUF of before" == path.read_bytes()
    assert CONTENT[:cut_at] == arriving_path(tmp_path, SHA256).read_bytes()
    verifier.cut_at = None
    pull_offer(verifier.client, OFFER, tmp_path, RecordedProgress())
    assert CONTENT == path.read_bytes()
    assert [0, cut_at] == verifier.starts
    assert [] == list(tmp_path.glob(".arriving-*"))


def test_a_killed_pull_is_gone_on_with(verifier: Verifier, tmp_path: Path) -> None:
    """kill -9 in the middle of a download, by the program itself."""
    verifier.seconds_for_a_piece = 0.1
    settings = {
        "GOODSPEED_MODEL_DIR": str(tmp_path),
        "GOODSPEED__VERIFIER__URL": verifier.client.url,
        "GOODSPEED__VERIFIER__TOKEN": TOKEN,
    }
    command = [*AGENT, "model", "pull", "wren"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(settings), stderr=subprocess.DEVNULL
    )
    part = arriving_path(tmp_path, SHA256)
    deadline = time.monotonic() + 60
    while not part.exists() or part.stat().st_size < 200_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "wren.gguf").exists()
    have = part.stat().st_size
    assert 0 < have < len(CONTENT)
    verifier.seconds_for_a_piece = 0.0
    ended = subprocess.run(
        command, cwd=ROOT, env=environment(settings), capture_output=True, text=True, check=False
    )
    assert 0 == ended.returncode, ended.stderr
    assert CONTENT == (tmp_path / "wren.gguf").read_bytes()
    assert [0, have] == verifier.starts


def test_other_bytes_than_offered_are_refused_and_forgotten(
    verifier: Verifier, tmp_path: Path
) -> None:
    verifier.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(ModelError, match="wren has the sha256"):
        pull_offer(verifier.client, OFFER, tmp_path, RecordedProgress())
    verifier.content = CONTENT + b"x"
    with pytest.raises(ModelError, match="longer than the verifier said"):
        pull_offer(verifier.client, OFFER, tmp_path, RecordedProgress())
    assert not (tmp_path / "wren.gguf").exists()


def test_what_is_no_model_is_refused(verifier: Verifier, tmp_path: Path) -> None:
    verifier.content = b"<html>"
    offer = DraftOffer("wren", 6, hashlib.sha256(b"<html>").hexdigest())
    with pytest.raises(ModelError, match="is not a GGUF file"):
        pull_offer(verifier.client, offer, tmp_path, RecordedProgress())


def test_a_wrong_token_and_a_wrong_list_are_named(verifier: Verifier) -> None:
    with pytest.raises(AuthRejected):
        OfferingVerifier(verifier.client.url, "gsd_other").offers()
    for packed in (b"no", b'[{"name":"../x","num_bytes":1,"sha256":"00"}]', b" " * 300_000):
        verifier.list = packed
        with pytest.raises(RemoteProtocolError):
            verifier.client.offers()


def test_nobody_there_is_a_lost_link() -> None:
    with pytest.raises(LinkLost, match="cannot reach the verifier"):
        OfferingVerifier("ws://127.0.0.1:1", TOKEN).offers()


def test_parts_that_nobody_went_on_with_are_deleted_after_a_week(tmp_path: Path) -> None:
    part = arriving_path(tmp_path, SHA256)
    part.write_bytes(b"GG")
    forget_old_parts(tmp_path, part.stat().st_mtime + 6 * 24 * 3600)
    assert part.exists()
    forget_old_parts(tmp_path, part.stat().st_mtime + 8 * 24 * 3600)
    assert not part.exists()
