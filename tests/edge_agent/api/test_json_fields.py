from __future__ import annotations

import pytest

from edge_agent.api.json_fields import read_json_object, shown
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
        b'{"a": "\\ud800"}',
        b'{"a": "\\ud800x"}',
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
