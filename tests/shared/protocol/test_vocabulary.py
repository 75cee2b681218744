from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RemoteProtocolError
from shared.protocol import vocabulary
from shared.protocol.vocabulary import (
    TokenBytes,
    pack_vocabulary,
    unpack_vocabulary,
    vocabulary_tag,
    without_padding,
)


@given(tokens=st.lists(st.binary(max_size=8), min_size=1, max_size=70))
def test_a_vocabulary_travels_unchanged(tokens: list[bytes]) -> None:
    assert tuple(tokens) == unpack_vocabulary(pack_vocabulary(tokens))


@given(st.lists(st.binary(max_size=4), max_size=20), st.data())
def test_in_one_piece_it_reads_as_a_tuple(tokens: list[bytes], data: st.DataObject) -> None:
    whole, expected = TokenBytes(tokens), tuple(tokens)
    assert (len(expected), expected) == (len(whole), tuple(whole))
    part = data.draw(st.slices(len(tokens)))
    assert expected[part] == whole[part]
    assert all(expected[place] == whole[place] for place in range(-len(tokens), len(tokens)))
    for beyond in (len(tokens), -len(tokens) - 1):
        with pytest.raises(IndexError):
            whole[beyond]


def test_in_one_piece_a_vocabulary_takes_a_third_of_the_memory() -> None:
    made = memory_of(lambda: TokenBytes([b"%07d" % i for i in range(100_000)]))
    assert made < memory_of(lambda: tuple([b"%07d" % i for i in range(100_000)])) / 3


def memory_of(make: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        kept = make()
        held, _ = tracemalloc.get_traced_memory()
        del kept
    finally:
        tracemalloc.stop()
    return held


def test_other_bytes_have_another_name() -> None:
    tags = {vocabulary_tag(pack_vocabulary([b"a", other])) for other in (b"b", b"c")}
    assert 2 == len(tags)


@given(packed=st.binary(max_size=60))
def test_whatever_comes_is_a_vocabulary_or_an_error(packed: bytes) -> None:
    with suppress(RemoteProtocolError):
        assert unpack_vocabulary(packed)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([[]], "vocabulary cannot be read"),
        ([], "vocabulary cannot be read"),
        ([["a"]], "vocabulary cannot be read"),
        ({"a": 1}, "vocabulary cannot be read"),
    ],
)
def test_what_is_none_is_an_error(content: object, sentence: str) -> None:
    with pytest.raises(RemoteProtocolError, match=sentence):
        unpack_vocabulary(msgspec.msgpack.encode(content))


def test_what_is_too_long_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "MAX_VOCABULARY_BYTES", 4)
    with pytest.raises(RemoteProtocolError, match="vocabulary of 5 bytes exceeds 4"):
        unpack_vocabulary(b"12345")


def test_padding_that_is_named_by_its_number_has_no_bytes() -> None:
    tokens = [b"a", b"[PAD1]", b"[PAD1]", b"[PAD]", b"[PAD4]x", b"[PAD5]"]
    expected = (b"a", b"", b"[PAD1]", b"[PAD]", b"[PAD4]x", b"")
    assert expected == without_padding(tokens)
