"""A keeper's order survives the way through a pipe; anything else is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import RemoteProtocolError
from verifier.workers.orders import WorkerOrder, pack_order, unpack_order


def test_an_order_is_one_line() -> None:
    order = WorkerOrder("worker 1", "secret", {"target.model": "a\nb", "target.threads": 2})
    line = pack_order(order)
    assert 1 == line.count(b"\n")
    assert order == unpack_order(line)


def test_paths_travel_as_text() -> None:
    line = pack_order(WorkerOrder("w", "s", {"state.directory": Path("/var/lib")}))
    assert {"state.directory": "/var/lib"} == unpack_order(line).settings


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b"\xff"])
def test_what_is_no_order_is_refused(line: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not an order"):
        unpack_order(line)
