"""Text that another chose (a board, a verifier, a client, a model), made safe to show.

In a log it is one line, so no peer forges another; on a terminal it moves no cursor and changes no
title. Whatever shows such text passes it through here; the log's formatter does so once more with
every line. This module must never be used on what is sent: a peer gets its text as it is.
"""

from __future__ import annotations

import logging
import re
from typing import Any

MOST_CHARACTERS = 200
_MOST_LINE_CHARACTERS = 4000  # of the log: a sentence of a peer, and what stands around it

# All but tab and line feed; and what turns the direction of the text behind it.
_DRIVES_TERMINALS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

# Priority prefixes that journald reads from standard error, at the start of every line.
_JOURNAL_PREFIX = {
    logging.DEBUG: "<7>",
    logging.INFO: "<6>",
    logging.WARNING: "<4>",
    logging.ERROR: "<3>",
    logging.CRITICAL: "<2>",
}


def one_line(text: object, most_characters: int = MOST_CHARACTERS) -> str:
    r"""The text of a value with escapes such as \n and \x1b for all that is no printable character.

    What is longer than `most_characters` is cut, and says so.
    """
    whole = str(text)
    kept = whole[:most_characters]
    if not kept.isprintable():
        kept = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in kept)
    return kept if len(whole) <= most_characters else f"{kept}… ({len(whole)} characters)"


def terminal_text(text: str) -> str:
    """The text without the characters that drive a terminal; lines and tabs stay."""
    return _DRIVES_TERMINALS.sub("", text)


class LogFormatter(logging.Formatter):
    """Every record is one line, and a traceback behind it is indented: no text forges a record.

    For journald each line carries its priority, and no time: the journal adds that itself.
    """

    def __init__(self, *, for_journal: bool) -> None:
        console = ("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
        super().__init__(*((None, None) if for_journal else console))
        self._for_journal = for_journal

    def format(self, record: logging.LogRecord) -> str:
        formatted = super().format(record)
        if not self._for_journal:
            return formatted
        prefix = _JOURNAL_PREFIX.get(record.levelno, "")
        return "\n".join(prefix + line for line in formatted.split("\n"))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        record.message = one_line(record.message, _MOST_LINE_CHARACTERS)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own name
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  {one_line(line, _MOST_LINE_CHARACTERS)}" for line in lines)
