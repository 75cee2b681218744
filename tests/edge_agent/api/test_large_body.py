"""Bodies are read alike, whatever their length and wherever that happens."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from edge_agent.api import large_body
from edge_agent.api.large_body import SHORT_BODY_BYTES, BodyReader
from edge_agent.api.large_body_reader import BodyKind
from edge_agent.api.requests.client_request import ClientRequest
from shared.errors import LocalProtocolError, RequestRefused

TURN = {"role": "user", "content": "hé 😀"}
KINDS: dict[BodyKind, dict[str, Any]] = {
    "chat": {
        "messages": [TURN],
        "temperature": 0.25,
        "stop": ["x"],
        "max_tokens": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
        "chat_template_kwargs": {"enable_thinking": False},
        "goodspeed": {"draft_length": 3},
    },
    "completion": {"prompt": "hé 😀", "seed": 2**63 - 1, "top_p": 0.5},
    "chat socket": {"type": "generate", "messages": [TURN]},
    "messages": {"messages": [TURN], "system": "brief", "stop_sequences": ["x"], "magic": 1},
    "responses": {"input": [TURN], "metadata": {"a": "b"}, "temperature": 1},
    "ollama chat": {"messages": [TURN], "options": {"seed": 3, "num_ctx": 5}},
    "ollama generate": {"prompt": "hé 😀", "raw": True},
}


def read(body: bytes, kind: BodyKind) -> ClientRequest:
    return asyncio.run(BodyReader().read(body, kind))


def packed(fields: dict[str, Any], *, long: bool) -> bytes:
    return json.dumps(fields).encode() + b" " * (SHORT_BODY_BYTES if long else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_body_says_what_a_short_one_says(kind: BodyKind) -> None:
    short = read(packed(KINDS[kind], long=False), kind)
    assert short == read(packed(KINDS[kind], long=True), kind)
    assert "hé 😀" == (short.generation.text or short.generation.messages[-1].content)


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize(
    ("kind", "fields", "field"),
    [
        ("chat", {"messages": [TURN], "temperature": "hot"}, "temperature"),
        ("chat", {"messages": [{"role": "king"}]}, "messages[0].role"),
        ("completion", {"prompt": 5}, "prompt"),
        ("chat socket", {"type": "resume", "id": "5"}, "type"),
        ("messages", {"messages": [TURN], "tools": [{}]}, "tools[0].name"),
        ("responses", {"input": 5}, "input"),
        ("ollama chat", {"messages": [TURN], "options": {"top_k": "x"}}, "options.top_k"),
        ("ollama generate", {"prompt": "x", "suffix": "y"}, "suffix"),
    ],
)
def test_a_refusal_names_its_field(
    kind: BodyKind, fields: dict[str, Any], field: str, long: bool
) -> None:
    with pytest.raises(RequestRefused) as refused:
        read(packed(fields, long=long), kind)
    assert field == refused.value.field


@pytest.mark.parametrize("long", [False, True])
def test_what_is_no_json_is_refused(long: bool) -> None:
    with pytest.raises(RequestRefused, match="not valid JSON"):
        read(b"{" + b" " * (SHORT_BODY_BYTES if long else 0), "chat")


def program(monkeypatch: pytest.MonkeyPatch, source: str) -> bytes:
    """A program in place of the reader, and a body that is too long to be read at once."""
    arguments = ["-c", source]
    monkeypatch.setattr(large_body, "_ARGUMENTS", arguments)
    return bytes(SHORT_BODY_BYTES + 1)


def test_a_reader_that_its_limits_end_refuses_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    body = program(
        monkeypatch,
        "import resource as r\nr.setrlimit(r.RLIMIT_CPU, (1, 1))\nwhile True: pass",
    )
    with pytest.raises(RequestRefused, match="too much time or memory"):
        read(body, "chat")


def test_a_reader_that_is_broken_is_the_agents_own_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    body = program(monkeypatch, "raise SystemExit(3)")
    with pytest.raises(LocalProtocolError, match="status 3"):
        read(body, "chat")
