"""A hub of models on this machine: what huggingface-hub's client asks of one, over HTTP."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Files by `owner/repo/file`; `cut_after` ends each answer after so many bytes, if set."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.cut_after: int | None = None
        self.told_sha256: str | None = None  # in place of the right one
        self.ranges: list[str | None] = []  # of each download
        self.url = ""

    def sha256(self, path: str) -> str:
        return self.told_sha256 or hashlib.sha256(self.files[path]).hexdigest()


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub answers at `hub.url` meanwhile."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(has_body=False)

        def do_GET(self) -> None:
            self._answer(has_body=True)

        def log_message(self, *_args: object) -> None:
            """Nothing is worth a line."""

        def _answer(self, has_body: bool) -> None:
            match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path)
            path = "" if match is None else f"{match[1]}/{match[2]}"
            if path not in hub.files:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content, start = hub.files[path], 0
            if has_body:
                wanted = self.headers.get("Range")
                hub.ranges.append(wanted)
                if wanted is not None:
                    start = int(wanted.removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if start else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", '"pointer"')
            self.send_header("X-Linked-ETag", f'"{hub.sha256(path)}"')
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                span = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self.send_header("Content-Range", span)
            self.end_headers()
            if has_body:
                end = len(content) if hub.cut_after is None else start + hub.cut_after
                self.wfile.write(content[start:end])
                self.close_connection = hub.cut_after is not None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
