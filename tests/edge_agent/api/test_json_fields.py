from __future__ import annotations

import pytest

from edge_agent.api.json_fields import (
    MAX_MENDED_BYTES,
    is_slow_to_read,
    read_json_object,
    shown,
)
from shared.errors import RequestRefused


def test_an_object_is_read() -> None:
    assert {"a": [1, "é"]} == read_json_object('{"a": [1, "é"]}'.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\xff"}',
        b"9" * 5000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(RequestRefused):
        read_json_object(body)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "true"),
        (1 << 70, "an integer of 71 bits"),
        ("short", "'short'"),
        ("x" * 41, "a string of 41 characters"),
        ([1, 2], "a list of 2"),
        ({}, "an object"),
    ],
)
def test_only_short_values_are_shown(value: object, expected: str) -> None:
    assert expected == shown(value)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (rb"\ud800", "\ufffd"),
        (rb"a\uDC00b", "a\ufffdb"),
        (rb"\ud83d\ude00", "😀"),
        (rb"\ud83d\ud83d\ude00\ude00", "\ufffd😀\ufffd"),
        (rb"\\ud800", r"\ud800"),
        (rb"\\\ud800 \u00e9", "\\\ufffd é"),
    ],
)
def test_half_a_surrogate_pair_reads_as_the_replacement_character(
    written: bytes, read: str
) -> None:
    body = b'{"x": "%b", "y": [1.5, 12345678901234567890, null]}' % written
    assert {"x": read, "y": [1.5, 12345678901234567890, None]} == read_json_object(body)


def test_a_byte_order_mark_is_skipped() -> None:
    assert {} == read_json_object(b"\xef\xbb\xbf{}")
    assert {} == read_json_object("\ufeff{}")


@pytest.mark.parametrize("value", [b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 900])
def test_mending_a_body_lets_nothing_in_that_is_no_json(value: bytes) -> None:
    with pytest.raises(RequestRefused):
        read_json_object(rb'{"x": "\ud800", "y": ' + value + b"}")


def test_only_a_long_body_with_half_a_pair_is_slow_to_read() -> None:
    long = b" " * MAX_MENDED_BYTES
    assert is_slow_to_read(long + rb'"\ud800"')
    assert not is_slow_to_read(rb'"\ud800"')
    assert not is_slow_to_read(long + rb'"\ud83d\ude00"')
