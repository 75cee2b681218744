"""Floods, boards that do not read, broken frames: the same tests, with a door."""

from __future__ import annotations

import pytest

from tests.support.ends import loopback
from tests.system.abuse.test_loop_floods import (  # noqa: F401
    test_a_flood_of_two_devices_leaves_most_of_the_loop_to_others,
)
from tests.system.abuse.test_shared_token import (  # noqa: F401
    test_after_a_few_takeovers_the_agent_that_is_connected_stays,
)
from tests.system.test_abuse import (  # noqa: F401
    test_a_flood_ends_the_connection_with_one_error,
    test_a_flood_of_frames_without_a_message_ends_the_connection_too,
    test_long_answers_that_nobody_reads_take_no_more_than_their_share_of_memory,
    test_long_messages_count_by_their_bytes,
)
from tests.system.test_bad_connections import (  # noqa: F401
    test_a_board_that_floods_delays_nobody_for_long,
    test_a_broken_message_ends_the_connection_with_one_error,
    test_boards_that_are_gone_before_the_upgrade_leave_no_trace,
)


@pytest.fixture(autouse=True)
def behind_a_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "NUM_DOORS", 1)
