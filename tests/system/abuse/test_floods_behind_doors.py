"""Devices that keep the event loop busy, and boards that do not read: the same tests, with a door."""

from __future__ import annotations

import pytest

from tests.support.ends import loopback
from tests.system.abuse.test_loop_floods import (  # noqa: F401
    test_a_flood_of_two_devices_leaves_most_of_the_loop_to_others,
)
from tests.system.abuse.test_shared_token import *  # noqa: F403


@pytest.fixture(autouse=True)
def behind_a_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "NUM_DOORS", 1)
