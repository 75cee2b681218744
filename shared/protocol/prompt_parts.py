"""Prompts that are too long for one message: cut in parts on one end, put together on the other.

Pure. Between the parts other messages of the connection go their way, and what waits for the next
part is bounded: in bytes by what the context can hold, in number, and on a connection one Open at a
time goes on. This module must never know a clock; how long the next part may take is its user's.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

import msgspec

from shared.errors import RemoteProtocolError, RequestRefused
from shared.protocol.messages import (
    MAX_MESSAGE_BYTES,
    MAX_TOOLS_BYTES,
    PART_BYTES,
    Open,
    Opened,
    OpenPart,
    PromptPart,
)
from shared.protocol.token_ids import (
    MAX_ID_BYTES,
    MAX_VOCAB_SIZE,
    count_token_ids,
    pack_token_ids,
    unpack_token_ids,
)
from shared.protocol.turn_parts import (
    TurnCollector,
    characters,
    num_bytes,
    turn_bytes,
    turn_pieces,
)

# The longest tokens of common vocabularies are runs of 128 spaces.
MAX_TOKEN_BYTES = 128
MAX_PROMPT_BYTES = 16 << 20  # however long the context is
# An honest part is full, but for the last one and where the kind of content changes.
MAX_PARTS = 4096

_PART_CHARACTERS = PART_BYTES // 4  # however many bytes each takes
_PART_TOKENS = PART_BYTES // MAX_ID_BYTES

_FIELDS = ("messages", "tools", "text", "prompt", "committed")
_Atom = tuple[str, Any, int]  # a field, what to add to it, and its bytes: those of a part at most


def longest_prompt_bytes(context_tokens: int) -> int:
    """Bytes of the longest prompt that may fit so many tokens."""
    return min(max(context_tokens * MAX_TOKEN_BYTES, MAX_MESSAGE_BYTES), MAX_PROMPT_BYTES)


def cut_open(message: Open) -> list[Open | OpenPart]:
    """The message, or what to send for it in this order; one if it is short."""
    atoms = list(_atoms(message))
    if sum(size for _, _, size in atoms) <= PART_BYTES:
        return [message]
    groups = list(_groups(atoms))
    first = msgspec.structs.replace(
        message,
        **_fields(groups[0]),
        num_prompt_tokens=count_token_ids(message.prompt),
        goes_on=True,
    )
    rest = [
        OpenPart(
            channel=message.channel,
            number=number,
            goes_on=number < len(groups) - 1,
            **_fields(group),
        )
        for number, group in enumerate(groups[1:], start=1)
    ]
    return [first, *rest]


def cut_opened(message: Opened) -> list[Opened | PromptPart]:
    """The message, or what to send for it in this order; one if its prompt is short."""
    if len(message.prompt) <= PART_BYTES:
        return [message]
    token_ids = unpack_token_ids(message.prompt, MAX_VOCAB_SIZE)
    first = msgspec.structs.replace(
        message, prompt=pack_token_ids(token_ids[:_PART_TOKENS]), num_prompt_tokens=len(token_ids)
    )
    rest = [
        PromptPart(message.channel, offset, pack_token_ids(token_ids[offset:][:_PART_TOKENS]))
        for offset in range(_PART_TOKENS, len(token_ids), _PART_TOKENS)
    ]
    return [first, *rest]


class OpenCollector:
    """Puts an Open that goes on together; `take` its parts."""

    def __init__(self, first: Open, *, context_tokens: int) -> None:
        self._first = first
        self._context_tokens = context_tokens
        self._num_parts = 0
        self._num_bytes = 0
        self._turns = TurnCollector()
        self._tools: list[bytes] = []
        self._texts: list[str] = []
        self._prompt: list[array[int]] = []
        self._committed: list[array[int]] = []
        self._add(first)

    def take(self, part: OpenPart) -> Open | None:
        """The whole message with its last part, None before.

        Raises:
            RemoteProtocolError: it is not the next part, or malformed.
            RequestRefused: the prompt is longer than the context can hold.
        """
        self._num_parts += 1
        if part.number != self._num_parts:
            raise RemoteProtocolError(f"part {part.number} came instead of {self._num_parts}")
        if part.number >= MAX_PARTS:
            raise RemoteProtocolError(f"an Open of more than {MAX_PARTS} parts")
        self._add(part)
        return None if part.goes_on else self._whole()

    def _add(self, part: Open | OpenPart) -> None:
        self._num_bytes += sum(size for _, _, size in _sizes(part))
        limit = longest_prompt_bytes(self._context_tokens)
        if self._num_bytes > limit + MAX_ID_BYTES * self._context_tokens:  # and what is committed
            field = "prompt" if self._turns.is_empty and not part.messages else "messages"
            sentence = f"prompt of more than {limit} bytes, for {self._context_tokens} tokens"
            raise RequestRefused(sentence, field)
        for turn in part.messages:
            self._turns.add(turn)
        self._tools.append(part.tools)
        if sum(map(len, self._tools)) > MAX_TOOLS_BYTES:
            raise RemoteProtocolError(f"tools of more than {MAX_TOOLS_BYTES} bytes")
        if part.text:
            self._texts.append(part.text)
        for ids, packed in ((self._prompt, part.prompt), (self._committed, part.committed)):
            if packed:
                ids.append(unpack_token_ids(packed, MAX_VOCAB_SIZE))

    def _whole(self) -> Open:
        return msgspec.structs.replace(
            self._first,
            messages=self._turns.whole(),
            tools=b"".join(self._tools),
            text="".join(self._texts),
            prompt=_joined(self._prompt),
            committed=_joined(self._committed),
            num_prompt_tokens=0,
            goes_on=False,
        )


def _joined(ids: list[array[int]]) -> bytes:
    joined = array("I")
    for part in ids:
        joined.extend(part)  # of arrays this copies bytes
    return pack_token_ids(joined)


def _sizes(part: Open | OpenPart) -> Iterator[_Atom]:
    """The contents of a part with their bytes, whole."""
    for turn in part.messages:
        yield "messages", turn, turn_bytes(turn)
    yield "tools", part.tools, len(part.tools)
    yield "text", part.text, num_bytes(part.text)
    yield "prompt", part.prompt, len(part.prompt)
    yield "committed", part.committed, len(part.committed)


def _atoms(message: Open) -> Iterator[_Atom]:
    """The contents of a message in pieces that fit into a part."""
    for turn in message.messages:
        for piece in turn_pieces(turn, _PART_CHARACTERS):
            yield "messages", piece, turn_bytes(piece)
    for start in range(0, len(message.tools), PART_BYTES):
        tools = message.tools[start : start + PART_BYTES]
        yield "tools", tools, len(tools)
    if message.text:
        for text in characters(message.text, _PART_CHARACTERS):
            yield "text", text, num_bytes(text)
    for field, packed in (("prompt", message.prompt), ("committed", message.committed)):
        ids = unpack_token_ids(packed, MAX_VOCAB_SIZE)
        for start in range(0, len(ids), _PART_TOKENS):
            piece_ids = ids[start : start + _PART_TOKENS]
            yield field, piece_ids, MAX_ID_BYTES * len(piece_ids)


def _groups(atoms: list[_Atom]) -> Iterator[list[_Atom]]:
    """As many of them after one another as fit into a part."""
    group: list[_Atom] = []
    size = 0
    for atom in atoms:
        if group and size + atom[2] > PART_BYTES:
            yield group
            group, size = [], 0
        group.append(atom)
        size += atom[2]
    yield group


def _fields(group: list[_Atom]) -> dict[str, Any]:
    """What a part of these holds in each field."""
    of: dict[str, list[Any]] = {name: [] for name in _FIELDS}
    for field, piece, _ in group:
        of[field].append(piece)
    return {
        "messages": tuple(of["messages"]),
        "tools": b"".join(of["tools"]),
        "text": "".join(of["text"]),
        "prompt": _joined(of["prompt"]),
        "committed": _joined(of["committed"]),
    }
