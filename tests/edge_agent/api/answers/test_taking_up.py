from __future__ import annotations

import pytest

from edge_agent.api.answers.taking_up import (
    AnswerPlace,
    comes_back,
    owner_of,
    place_in,
    place_of_event,
)


@pytest.mark.parametrize(
    ("event_id", "place"),
    [
        ("chatcmpl-1f:0", AnswerPlace("chatcmpl-1f", 1)),
        (" resp_1f:41 ", AnswerPlace("resp_1f", 42)),
        *[(wrong, None) for wrong in ("41", "a:", "a:-1", "a:x", "a b:1", "é:1", "a:1:2", "")],
        ("a:" + "9" * 10, None),
        ("a" * 81 + ":1", None),
    ],
)
def test_an_id_of_an_event_names_what_follows(event_id: str, place: AnswerPlace | None) -> None:
    assert place == place_of_event(event_id)


@pytest.mark.parametrize(
    ("headers", "query", "num_known"),
    [
        ({}, {}, 0),
        ({}, {"starting_after": "4"}, 5),
        ({"Last-Event-ID": "4"}, {}, 5),
        ({"Last-Event-ID": "a:4"}, {}, 5),
        ({"Last-Event-ID": ""}, {"starting_after": "1"}, 2),
        ({"Last-Event-ID": "another:4"}, {}, None),
        ({"Last-Event-ID": "nonsense"}, {}, None),
        ({}, {"starting_after": "-1"}, None),
        ({}, {"starting_after": "x"}, None),
    ],
)
def test_a_place_in_an_answer_is_in_a_header_or_in_the_query(
    headers: dict[str, str], query: dict[str, str], num_known: int | None
) -> None:
    expected = None if num_known is None else AnswerPlace("a", num_known)
    assert expected == place_in("a", headers, query)


@pytest.mark.parametrize(
    ("headers", "does"),
    [
        ({"Accept": "text/event-stream"}, True),
        ({"Accept": "application/json, text/event-stream;q=0.9"}, True),
        ({"Last-Event-ID": ""}, True),
        ({"Accept": "application/json"}, False),
        ({"Accept": "*/*"}, False),
        ({}, False),
    ],
)
def test_clients_of_event_streams_come_back(headers: dict[str, str], does: bool) -> None:
    assert does is comes_back(headers)


def test_keys_are_told_apart_wherever_they_stand() -> None:
    shown = [{}, {"Authorization": "Bearer a"}, {"Authorization": "Bearer b"}, {"X-Api-Key": "a"}]
    assert len(shown) == len({owner_of(headers) for headers in shown})
    assert owner_of({"X-Api-Key": "a"}) == owner_of({"X-Api-Key": "a", "Accept": "*/*"})
