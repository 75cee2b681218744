"""How the terminal chat looks: accepted draft tokens plain, the target's own underlined.

It must never let another's text steer the terminal: control characters are dropped.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

from edge_agent.chat.word_wrap import PLAIN, Style, WordWrap
from edge_agent.generation.chat_messages import ChatFinished, Text
from edge_agent.generation.figures import (
    acceptance,
    decode_tokens_per_second,
    output_tokens_per_round,
    summarise,
    wire_bytes_per_token,
)
from edge_agent.generation.generation import Timings
from shared.daemon.peer_text import terminal_text

_UNDERLINED: Style = ("\x1b[4m", "\x1b[24m")
_DIM: Style = ("\x1b[2m", "\x1b[22m")
_RED: Style = ("\x1b[31m", "\x1b[39m")

_END_NOTES = {
    "length": "cut at the token limit",
    "context": "the context is full, /reset starts afresh",
    "cancelled": "stopped",
}


class ChatDisplay:
    """Writes a conversation to a terminal of `width()` cells; without styles it is plain text."""

    def __init__(self, out: TextIO, *, is_styled: bool, width: Callable[[], int]) -> None:
        self._out = out
        self._is_styled = is_styled
        self._width = width
        self._wrap = WordWrap()

    def write_text(self, piece: Text) -> None:
        style = _UNDERLINED if piece.origin == "target" else PLAIN
        self._write(self._placed(self._wrap, terminal_text(piece.text), style))

    def end(self, finished: ChatFinished) -> None:
        """Close an answer with its figures."""
        self._end_line()
        figures = summarise(finished.timings) if finished.timings is not None else ""
        self.note(" · ".join(filter(None, [_END_NOTES.get(finished.reason, ""), figures])))
        self._write("\n")

    def note(self, sentence: str) -> None:
        """Write one or more lines that are no answer."""
        self._write(self._styled_lines(sentence, _DIM) + "\n")

    def end_with_failure(self, sentence: str) -> None:
        """Close what there is of an answer with the reason why there is no more."""
        self._end_line()
        self._write(self._styled_lines(sentence, _RED) + "\n\n")

    def _end_line(self) -> None:
        if self._wrap.column:
            self._write("\n")
        self._wrap = WordWrap()

    def _styled_lines(self, sentence: str, style: Style) -> str:
        lines = self._placed(WordWrap(), terminal_text(sentence), PLAIN)
        return style[0] + lines + style[1] if self._is_styled else lines

    def _placed(self, wrap: WordWrap, text: str, style: Style) -> str:
        if self._is_styled:
            return wrap.place(text, style, self._width())
        return wrap.place(text, PLAIN, sys.maxsize)  # as it is; the terminal breaks its lines

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def details(finished: ChatFinished, num_answers: int, num_tokens: int) -> str:
    """What `/stats` shows: the last answer, and the whole conversation in one line."""
    session = f"conversation   {num_tokens} tokens, answers: {num_answers}"
    if finished.timings is None:
        why = "stopped" if finished.reason == "cancelled" else "resumed after the agent's restart"
        return f"last answer    {why}, no figures\n{session}"
    return "\n".join([*_answer_lines(finished, finished.timings), session])


def _answer_lines(finished: ChatFinished, timings: Timings) -> list[str]:
    speed = decode_tokens_per_second(timings)
    per_round = output_tokens_per_round(timings)
    accepted = acceptance(timings)
    per_token = wire_bytes_per_token(timings)
    resting = "drafts         off: the verifier measures that all streams are faster without them"
    return [
        f"last answer    {timings.output_tokens} tokens in {timings.total_seconds:.2f} s"
        + _in_brackets(speed, "{:.1f} tok/s after the first"),
        f"prompt         {timings.prompt_tokens} tokens, {timings.cached_prefix_tokens} from cache,"
        f" first token after {timings.seconds_to_first_token:.2f} s",
        f"rounds         {timings.num_verdicts}, {timings.num_drafting_verdicts} with drafts"
        + _in_brackets(per_round, "{:.1f} tok/round"),
        *([resting] if timings.drafts_rest else []),
        f"draft tokens   {timings.drafted_tokens} sent, {timings.accepted_tokens} accepted,"
        f" {timings.rejected_tokens} rejected"
        + _in_brackets(accepted, "{:.0%} accepted").replace("%", " %"),
        f"wire           {timings.wire_bytes} bytes" + _in_brackets(per_token, "{:.1f} B/token"),
        f"mode           {finished.acceptance_mode}, seed {finished.seed}",
    ]


def _in_brackets(figure: float | None, template: str) -> str:
    return "" if figure is None else f" ({template.format(figure)})"
