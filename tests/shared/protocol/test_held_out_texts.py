"""Held-out texts come back as they were, and a broken file is told."""

from __future__ import annotations

import zlib

import msgspec
import numpy as np
import pytest

from shared.errors import ModelError
from shared.protocol.held_out_texts import (
    HeldOutText,
    HeldOutTexts,
    TargetRow,
    pack_texts,
    text_of,
    unpack_texts,
)


def row(*entries: tuple[int, float]) -> TargetRow:
    ids, probs = zip(*entries, strict=True)
    return TargetRow(np.array(ids, np.uint32), np.array(probs, np.float32))


def texts(*found: HeldOutText) -> HeldOutTexts:
    return HeldOutTexts("target", 70_000, found)


SAMPLED = text_of("qa", "0.8", [5, 69_999], [7, 8], [row((7, 0.75), (9, 0.25)), row((8, 1.0))])
GREEDY = text_of("qa", "greedy", [5], [7, 8], [])


def test_texts_come_back_with_their_rows() -> None:
    back = unpack_texts(pack_texts(texts(SAMPLED, GREEDY)), "file")
    sampled, greedy = back.texts
    assert (5, 69_999) == sampled.prompt_ids
    assert (7, 8) == greedy.token_ids == sampled.token_ids
    assert [7, 9] == sampled.row(0).token_ids.tolist()
    assert [1.0] == sampled.row(1).probs.tolist()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        pack_texts(texts(SAMPLED))[:-4],
        b"goodspeed texts 1\n" + zlib.compress(b"nothing"),
        pack_texts(texts(msgspec.structs.replace(SAMPLED, row_ids=b""))),
        pack_texts(texts(msgspec.structs.replace(SAMPLED, row_ends=b"\0" * 4))),
        pack_texts(texts(msgspec.structs.replace(GREEDY, prompt=b"abc"))),
    ],
    ids=["empty", "another file", "cut", "no texts", "no ids", "too few ends", "half an id"],
)
def test_a_broken_file_is_told(content: bytes) -> None:
    with pytest.raises(ModelError, match="a file"):
        unpack_texts(content, "a file")
