"""Compressed bodies are unpacked within a limit, or refused."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from contextlib import suppress

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.api.content_encoding import decoded

BODY = b'{"prompt": "x"}' * 10


def unpacked(body: bytes, encoding: str, most_bytes: int = 1000) -> bytes:
    return asyncio.run(decoded(body, encoding, most_bytes))


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (BODY, ""),
        (BODY, "identity"),
        (gzip.compress(BODY, mtime=0), "gzip"),
        (gzip.compress(BODY, mtime=0), " GZip "),
        (zlib.compress(BODY), "deflate"),
    ],
)
def test_a_body_is_read_as_its_encoding_says(body: bytes, encoding: str) -> None:
    assert BODY == unpacked(body, encoding)


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (BODY, "gzip", 400),
        (BODY, "deflate", 400),
        (gzip.compress(BODY, mtime=0)[:-1], "gzip", 400),
        (gzip.compress(BODY, mtime=0) + b"x", "gzip", 400),
        (zlib.compress(BODY), "gzip", 400),
        (BODY, "br", 415),
        (gzip.compress(BODY, mtime=0), "gzip, gzip", 415),
        (gzip.compress(bytes(1001), mtime=0), "gzip", 413),
        (gzip.compress(bytes(10_000_000), mtime=0), "gzip", 413),
    ],
)
def test_what_is_not_what_it_says_or_too_long_is_refused(
    body: bytes, encoding: str, status: int
) -> None:
    with pytest.raises(web.HTTPException) as refused:
        unpacked(body, encoding)
    assert status == refused.value.status


@given(st.binary(max_size=100), st.sampled_from(("gzip", "deflate")))
def test_no_other_error_comes_out(body: bytes, encoding: str) -> None:
    for packed in (body, gzip.compress(body)[: len(body)]):
        with suppress(web.HTTPBadRequest, web.HTTPRequestEntityTooLarge):
            unpacked(packed, encoding)
