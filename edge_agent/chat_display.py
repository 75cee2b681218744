"""How the terminal chat looks: accepted draft tokens plain, the target's own underlined.

It must never let a model's output steer the terminal: control characters are dropped.
"""

from __future__ import annotations

import re
from typing import TextIO

from edge_agent.chat_messages import ChatFinished, Text
from edge_agent.figures import (
    acceptance,
    decode_tokens_per_second,
    output_tokens_per_round,
    summary,
    wire_bytes_per_token,
)
from edge_agent.generation import Timings

_UNDERLINED = ("\x1b[4m", "\x1b[24m")
_DIM = ("\x1b[2m", "\x1b[22m")
_RED = ("\x1b[31m", "\x1b[39m")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed

_END_NOTES = {
    "length": "cut at the token limit",
    "context": "the context is full, /reset starts afresh",
    "cancelled": "stopped",
}


class ChatDisplay:
    """Writes a conversation to a terminal; without styles it is plain text."""

    def __init__(self, out: TextIO, *, is_styled: bool) -> None:
        self._out = out
        self._is_styled = is_styled
        self._is_at_line_start = True

    def text(self, piece: Text) -> None:
        visible = _CONTROLS.sub("", piece.text)
        if not visible:
            return
        core = visible.strip() if piece.origin == "target" else ""
        if core:  # a line under the spaces between words would join them
            before, after = visible.split(core, 1)
            self._write(before + self._styled(core, _UNDERLINED) + after)
        else:
            self._write(visible)
        self._is_at_line_start = visible.endswith("\n")

    def end(self, finished: ChatFinished) -> None:
        """Close an answer with its figures."""
        self.end_line()
        figures = summary(finished.timings) if finished.timings is not None else ""
        self.note(" · ".join(filter(None, [_END_NOTES.get(finished.reason, ""), figures])))
        self._write("\n")

    def end_line(self) -> None:
        if not self._is_at_line_start:
            self._write("\n")
            self._is_at_line_start = True

    def note(self, sentence: str) -> None:
        for line in sentence.splitlines():
            self._write(self._styled(line, _DIM) + "\n")

    def failure(self, sentence: str) -> None:
        self.end_line()
        self._write(self._styled(sentence, _RED) + "\n\n")

    def _styled(self, text: str, style: tuple[str, str]) -> str:
        return style[0] + text + style[1] if self._is_styled else text

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def details(finished: ChatFinished, num_answers: int, num_tokens: int) -> str:
    """What `/stats` shows: the last answer, and the whole conversation in one line."""
    session = f"conversation   {num_answers} answers, {num_tokens} tokens"
    if finished.timings is None:
        return f"last answer    stopped, no figures\n{session}"
    return "\n".join([*_answer_lines(finished, finished.timings), session])


def _answer_lines(finished: ChatFinished, timings: Timings) -> list[str]:
    speed = decode_tokens_per_second(timings)
    per_round = output_tokens_per_round(timings)
    accepted = acceptance(timings)
    per_token = wire_bytes_per_token(timings)
    return [
        f"last answer    {timings.output_tokens} tokens in {timings.total_seconds:.2f} s"
        + _in_brackets(speed, "{:.1f} tok/s after the first"),
        f"prompt         {timings.prompt_tokens} tokens, {timings.cached_prefix_tokens} from cache,"
        f" first token after {timings.seconds_to_first_token:.2f} s",
        f"rounds         {timings.num_verdicts}, {timings.num_drafting_verdicts} with drafts"
        + _in_brackets(per_round, "{:.1f} tok/round"),
        f"draft tokens   {timings.drafted_tokens} sent, {timings.accepted_tokens} accepted,"
        f" {timings.rejected_tokens} rejected"
        + _in_brackets(accepted, "{:.0%} accepted").replace("%", " %"),
        f"wire           {timings.wire_bytes} bytes" + _in_brackets(per_token, "{:.1f} B/token"),
        f"mode           {finished.acceptance_mode}, seed {finished.seed}",
    ]


def _in_brackets(value: float | None, template: str) -> str:
    return "" if value is None else f" ({template.format(value)})"
