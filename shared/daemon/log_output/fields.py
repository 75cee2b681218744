"""Whom a line of the log is about: set around what is done for a device or a stream.

Fields travel with the context of a task, so that a line deep below has them. A stream's number is
that of its channel: its id would open its answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType

_NOTHING: Mapping[str, str] = MappingProxyType({})
_fields: ContextVar[Mapping[str, str]] = ContextVar("log_fields", default=_NOTHING)


@contextmanager
def log_fields(**fields: object) -> Iterator[None]:
    """Lines that are logged in the block, and in tasks that it starts, have these fields too."""
    token = _fields.set({**_fields.get(), **{name: str(value) for name, value in fields.items()}})
    try:
        yield
    finally:
        _fields.reset(token)


def fields_here() -> Mapping[str, str]:
    """Those that hold now."""
    return _fields.get()
