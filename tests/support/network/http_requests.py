"""HTTP requests that no client should send: legal ones, changed in one place or several.

Deterministic: the same seed makes the same requests.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Any

from tests.support.network.http_bodies import JsonBodies

METHODS = ("GET", "GET", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT")
LEGAL_METHODS = (*("GET",) * 4, *("POST",) * 3, "HEAD", "DELETE")
VERSIONS = ("HTTP/1.1",) * 6 + (
    "HTTP/1.0",
    "HTTP/1.2",
    "HTTP/0.9",
    "HTTP/2.0",
    "HTTP/9.9",
    "HTTP/",
    "",
)
# Values that a parser, a decoder or a handler may trip over, as headers hold them.
ODD_VALUES = (
    *(
        b"\xff\xfe",
        b"",
        b" ",
        b"\x00",
        b"\x80" * 9,
        b"100-continue",
        b"100-Continue, x",
        b"0",
        b"-1",
    ),
    *(b"1e9", b"99999999999999999999", b"+1", b"1,1", b"chunked", b"chunked, chunked", b"identity"),
    *(b"gzip", b"deflate", b"br", b"zstd", b"gzip, deflate", b"close", b"keep-alive", b"upgrade"),
    *(b"websocket", b"h2c", b"13", b"12", b"Bearer", b"Bearer \xff", b"Basic eA==", b"bearer  x"),
    *(b'"\xff"', b'W/"x"', b"*", b"text/html", b"[::1", b"a:b:c", b"127.0.0.1:99999", b"localhost"),
    *(b"goodspeed.chat", b"goodspeed.bearer.", b"permessage-deflate; x=\xff", b"bytes=0-1", b"\t"),
    *(
        b"multipart/form-data",
        b"application/json; charset=\xff",
        b"a" * 9000,
        b"%",
        b"=?utf-8?q?x?=",
    ),
)
HEADERS = (
    *("Host", "Expect", "Content-Length", "Transfer-Encoding", "Content-Encoding", "Content-Type"),
    *("Connection", "Upgrade", "Sec-WebSocket-Version", "Sec-WebSocket-Key", "Authorization"),
    *("Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "If-None-Match", "Accept", "Cookie"),
    *(
        "Last-Event-ID",
        "Origin",
        "Range",
        "X-Forwarded-For",
        "Forwarded",
        "Trailer",
        "TE",
        "Date",
        "X" * 300,
    ),
    *("HTTP2-Settings", "If-Modified-Since", "Accept-Encoding", "Keep-Alive", "\u00fc", "a b", ""),
)
ODD_TARGETS = (
    *("*", "//", "/%", "/%ff%0a%1b", "/..", "http://x/", "http://[::1", "x:1", "/?" + "a" * 9000),
    *("/\u00fc", "/#x", "/?a=%zz", "//x:y@[", "/v1/../metrics", "", " ", "/v1/models;x", "?"),
)


@dataclass
class Request:
    """One request before it is bytes."""

    method: str
    target: str
    version: str = "HTTP/1.1"
    headers: list[tuple[str, bytes]] = field(default_factory=list)
    body: bytes = b""

    def packed(self) -> bytes:
        lines = [f"{self.method} {self.target} {self.version}".encode()]
        lines += [name.encode("latin-1") + b": " + value for name, value in self.headers]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


class HttpMutations:
    """Requests to the paths of one port; `token` is one that opens it."""

    def __init__(
        self,
        seed: int,
        paths: Sequence[str],
        token: str,
        bodies: Mapping[str, tuple[Any, ...]] = MappingProxyType({}),
    ) -> None:
        """`bodies`: JSON that clients send to a path."""
        self.random = Random(seed)
        self._paths = paths
        self._token = token
        self._bodies = JsonBodies(self.random, bodies)

    def request(self) -> bytes:
        """The next request, more or less broken."""
        random = self.random
        request = self._legal()
        for _ in range(random.choice((0, 1, 1, 1, 2, 2, 4))):
            self._change(request)
        packed = request.packed()
        return self._scrambled(packed) if random.random() < 0.15 else packed

    def pieces(self, packed: bytes) -> list[bytes]:
        """The same bytes as they may come from a network."""
        if self.random.random() < 0.7:
            return [packed]
        cuts = sorted(self.random.randrange(len(packed) + 1) for _ in range(3))
        ends = [*cuts, len(packed)]
        return [packed[a:b] for a, b in zip([0, *cuts], ends, strict=True) if a < b]

    def _legal(self) -> Request:
        random = self.random
        request = Request(random.choice(LEGAL_METHODS), random.choice(self._paths))
        request.headers.append(("Host", b"127.0.0.1"))
        if random.random() < 0.5:
            request.headers.append(("Authorization", f"Bearer {self._token}".encode()))
        if random.random() < 0.2:
            request.headers += [
                ("Connection", b"Upgrade"),
                ("Upgrade", b"websocket"),
                ("Sec-WebSocket-Version", b"13"),
                ("Sec-WebSocket-Key", b"AAAAAAAAAAAAAAAAAAAAAA=="),
            ]
        if request.method == "POST":
            request.body = self._bodies.body(request.target)
            request.headers.append(("Content-Length", str(len(request.body)).encode()))
        return request

    def _change(self, request: Request) -> None:
        random = self.random
        match random.randrange(9):
            case 0:
                odd = (request.method.lower(), "", "G\xffT", "A" * 200)
                request.method = random.choice((*METHODS, *odd))
            case 1:
                request.target = random.choice(ODD_TARGETS)
            case 2:
                request.version = random.choice(VERSIONS)
            case 3 if request.headers:
                del request.headers[random.randrange(len(request.headers))]
            case 4:
                request.headers += [(f"X-{i}", b"x") for i in range(random.choice((5, 200)))]
            case 5:
                self._encode_body(request)
            case 6:
                self._chunk_body(request)
            case 7:
                request.body += random.randbytes(random.choice((1, 10, 3000)))
            case _:
                name, value = random.choice(HEADERS), random.choice(ODD_VALUES)
                request.headers.insert(random.randrange(len(request.headers) + 1), (name, value))

    def _encode_body(self, request: Request) -> None:
        """A body that is, or is not, what its Content-Encoding says."""
        random = self.random
        name = random.choice((b"gzip", b"deflate", b"br", b"zstd", b"gzip, gzip"))
        body = request.body or b"{}"
        whole = random.choice((gzip.compress(body), zlib.compress(body), body))
        cut = whole[: random.randrange(len(whole) + 1)] if random.random() < 0.5 else whole
        request.body = cut
        kept = [(key, value) for key, value in request.headers if key != "Content-Length"]
        length = ("Content-Length", str(len(cut)).encode())
        request.headers = [*kept, ("Content-Encoding", name), length]

    def _chunk_body(self, request: Request) -> None:
        random = self.random
        size = random.choice(
            (b"2", b"zz", b"-1", b"0", b"ffffffffffffffff1", b"2;x=\xff", b"2 ", b"")
        )
        end = random.choice(
            (b"0\r\n\r\n", b"0\r\nX: \xff\r\n\r\n", b"0\r\nx\r\n\r\n", b"", b"0\r\n")
        )
        request.body = size + random.choice((b"\r\n", b"\n", b"\r")) + b"{}\r\n" + end
        kept = [(key, value) for key, value in request.headers if key != "Content-Length"]
        request.headers = [*kept, ("Transfer-Encoding", b"chunked")]

    def _scrambled(self, packed: bytes) -> bytes:
        random = self.random
        changed = bytearray(packed)
        for _ in range(random.choice((1, 1, 3, 20))):
            place = random.randrange(len(changed) + 1)
            match random.randrange(3):
                case 0:
                    changed[place : place + 1] = random.randbytes(1)
                case 1:
                    del changed[place : place + random.randrange(1, 20)]
                case _:
                    changed[place:place] = random.choice(
                        (b"\r\n", b"\n", b"\0", b":", b" ", b"\xff")
                    )
        return bytes(changed)
