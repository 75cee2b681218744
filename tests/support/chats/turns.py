"""Chats in short: pairs of a role and a text."""

from __future__ import annotations

from collections.abc import Iterable

from shared.protocol.messages import ChatMessage


def turns(pairs: Iterable[tuple[str, str]]) -> list[ChatMessage]:
    """A message for each pair."""
    return [ChatMessage(role, text) for role, text in pairs]
