"""Judgements of drafts travel as JSON, and wrong ones are refused."""

from __future__ import annotations

import pytest

from shared.errors import RequestRefused
from shared.protocol.handed_drafts.draft_judgement import (
    DraftJudgement,
    pack_judgements,
    unpack_judgements,
)

JUDGED = DraftJudgement(
    "wren", "0" * 64, 9, 1090.0, 880.0, {"greedy": {"qa": 0.5, "code": 0.7}, "1": {"qa": 0.4}}
)


def test_they_are_read_as_they_were_written() -> None:
    assert (JUDGED, JUDGED) == unpack_judgements(pack_judgements([JUDGED, JUDGED]), "a.json")


def test_ways_to_accept_and_domains_count_the_same() -> None:
    assert pytest.approx((0.6 + 0.4) / 2) == JUDGED.acceptance
    assert 0.0 == DraftJudgement("wren", "0" * 64, 9, 1.0, 1.0, {}).acceptance


@pytest.mark.parametrize(
    "packed",
    [
        *(b"", b"{}", b"[1]", b"\xff"),
        pack_judgements([JUDGED]).replace(b"0.5", b"1.5"),
        pack_judgements([JUDGED]).replace(b"1090.0", b"-1"),
        pack_judgements([JUDGED]).replace(b"0" * 64, b"x"),
    ],
)
def test_what_is_none_is_one_sentence(packed: bytes) -> None:
    with pytest.raises(RequestRefused, match=r"a\.json is no judgement of drafts"):
        unpack_judgements(packed, "a.json")
