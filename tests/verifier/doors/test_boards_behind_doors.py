"""What is asked of connections at the port holds behind doors, too: the same tests, with a door."""

from __future__ import annotations

import pytest

from tests.support.ends import loopback
from tests.system.test_bad_connections import (  # noqa: F401
    test_a_board_that_says_nothing_is_sent_away,
    test_a_draft_before_the_greeting_ends_the_connection,
    test_a_message_far_too_long_ends_the_connection_with_its_close_code,
)
from tests.verifier.server.test_connection import (  # noqa: F401
    test_a_board_is_welcomed_with_what_it_needs_to_know,
    test_a_board_says_how_fast_it_drafts,
    test_a_board_that_breaks_the_protocol_finds_nothing_again,
    test_a_goodbye_leaves_nothing_of_earlier_connections_either,
    test_a_half_open_connection_is_taken_over_with_its_streams,
    test_a_lost_connection_leaves_its_streams_for_the_next_one,
    test_a_newer_connection_takes_over_at_once,
    test_a_stream_that_crosses_the_goodbye_of_the_verifier_is_left_to_the_next_connection,
    test_a_stream_that_nobody_has_is_refused_alone,
    test_a_stream_whose_prompt_is_being_read_ends_with_its_connection,
    test_an_older_connection_that_does_not_read_is_no_hindrance,
    test_goodbye_ends_the_streams_of_a_board,
    test_nothing_that_a_board_says_forges_a_line_of_the_log,
    test_what_crosses_the_end_of_a_connection_is_no_fault,
)
from tests.verifier.server.test_server import (  # noqa: F401
    test_a_board_that_answers_no_ping_is_let_go,
    test_a_connection_that_is_no_websocket_takes_no_place,
    test_a_device_whose_token_is_gone_or_another_is_let_go_and_no_other,
    test_beyond_the_connection_limit_boards_are_asked_to_come_back,
    test_health_names_target_devices_and_streams,
    test_one_device_cannot_take_all_connections,
    test_streams_that_were_kept_for_a_revoked_device_are_given_up,
)


@pytest.fixture(autouse=True)
def behind_a_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "NUM_DOORS", 1)
