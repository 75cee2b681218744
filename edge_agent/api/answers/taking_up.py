"""Which answer a request wants to take up, from where on, and whether its client would: pure.

This module must never say whether there is such an answer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import hdrs

from edge_agent.api.access import API_KEY

LAST_EVENT_ID = "Last-Event-ID"
_EVENT_ID = re.compile(r"([\w-]{1,80}):([0-9]{1,9})", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


class AnswerPlace(NamedTuple):
    """In an answer: so many of its events are known."""

    answer_id: str
    num_known: int


def asks_to_take_up(headers: Mapping[str, str]) -> bool:
    """Whether a request is one more try at an answer; an empty id is that of a first try."""
    return bool(headers.get(LAST_EVENT_ID, "").strip())


def place_of_event(event_id: str) -> AnswerPlace | None:
    """What follows the event of this id; None: it is no id of ours."""
    match = _EVENT_ID.fullmatch(event_id.strip())
    return None if match is None else AnswerPlace(match[1], int(match[2]) + 1)


def place_in(
    answer_id: str, headers: Mapping[str, str], query: Mapping[str, str]
) -> AnswerPlace | None:
    """Where in the answer that its path names a request wants to go on; None: it is no place.

    `starting_after` is the number of an event, as in OpenAI's API; without any, from the first on.
    """
    if asks_to_take_up(headers):
        event_id = headers[LAST_EVENT_ID].strip()
        if _NUMBER.fullmatch(event_id):
            return AnswerPlace(answer_id, int(event_id) + 1)
        place = place_of_event(event_id)
        return place if place is not None and place.answer_id == answer_id else None
    after = query.get("starting_after", "")
    if not after:
        return AnswerPlace(answer_id, 0)
    return AnswerPlace(answer_id, int(after) + 1) if _NUMBER.fullmatch(after) else None


def comes_back(headers: Mapping[str, str]) -> bool:
    """Whether a client says that it takes its answer up again after its connection broke.

    So does what is made after the standard of server-sent events: it names the last id, if an empty
    one, or accepts event streams; clients of chat APIs accept JSON, or anything.
    """
    return LAST_EVENT_ID in headers or "text/event-stream" in headers.get(hdrs.ACCEPT, "")


def owner_of(headers: Mapping[str, str]) -> bytes:
    """What tells the keys of requests apart, without keeping one."""
    shown = f"{headers.get(hdrs.AUTHORIZATION, '')}\n{headers.get(API_KEY, '')}"
    return hashlib.blake2b(shown.encode(errors="surrogateescape"), digest_size=16).digest()
