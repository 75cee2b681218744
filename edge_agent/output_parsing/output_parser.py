"""From a target's output to text, thoughts and calls, by the form that its verifier names. Pure.

This module must never know a client's dialect, nor a model: only families of forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from edge_agent.output_parsing.control_marks import with_marks, without_marks
from edge_agent.output_parsing.gemma_reader import GemmaReader
from edge_agent.output_parsing.harmony_reader import HarmonyReader
from edge_agent.output_parsing.hermes_reader import HermesReader
from edge_agent.output_parsing.llama_reader import LlamaReader
from edge_agent.output_parsing.mistral_reader import MistralReader
from edge_agent.output_parsing.reasoning_reader import ReasoningReader
from edge_agent.output_parsing.said import Said
from shared.protocol.messages import OutputFormat

# Opening, closing, and what the target writes behind the opening.
_REASONING_MARKS: Mapping[str, tuple[str, str, str]] = {
    "think": ("<think>", "</think>", ""),
    "mistral": ("[THINK]", "[/THINK]", ""),
    "gemma": ("<|channel>", "<channel|>", "thought\n"),
}


class OutputReading(msgspec.Struct, frozen=True):
    """What a client wants told apart."""

    calls: bool = False
    reasoning: bool = False
    several_calls: bool = True  # else the first alone counts


NOTHING_APART = OutputReading()


class _Reader(Protocol):
    def feed(self, text: str) -> list[Said]: ...
    def close(self) -> list[Said]: ...


class OutputParser:
    """Of one output: `feed` its text as it comes, then `close`.

    Control tokens are in the text as `control_marks` say. The same pieces come out, joined,
    however the text is cut; plain text waits only while it may still become a call or a mark.
    """

    def __init__(
        self, output_format: OutputFormat, reading: OutputReading, tools: bytes = b""
    ) -> None:
        """`tools`: those on offer, a JSON list in OpenAI's words."""
        schemas = _schemas(tools)
        self._reading = reading
        self._num_calls = 0
        self._harmony: HarmonyReader | None = None
        self._thoughts: ReasoningReader | None = None
        self._calls: _Reader | None = None
        if output_format.reasoning == "harmony" and (reading.reasoning or reading.calls):
            self._harmony = HarmonyReader(tells_calls=reading.calls)
        elif output_format.reasoning in _REASONING_MARKS and reading.reasoning:
            self._thoughts = ReasoningReader(*_REASONING_MARKS[output_format.reasoning])
        if reading.calls and self._harmony is None:
            self._calls = _call_reader(output_format.tools, schemas)
        if output_format.opening and (self._harmony or self._thoughts):
            self.feed(with_marks(output_format.opening))

    @property
    def is_reasoning(self) -> bool:
        """Whether what comes next is a thought."""
        if self._harmony is not None:
            return self._harmony.is_reasoning
        return self._thoughts is not None and self._thoughts.is_reasoning

    def feed(self, text: str) -> list[Said]:
        """What is certain with this text."""
        if self._harmony is not None:
            return self._told(self._harmony.feed(text))
        said = [Said("text", text)] if self._thoughts is None else self._thoughts.feed(text)
        return self._told([part for piece in said for part in self._read_calls(piece)])

    def close(self) -> list[Said]:
        """What waits still, at the end of the output."""
        if self._harmony is not None:
            return self._told(self._harmony.close())
        said = [] if self._thoughts is None else self._thoughts.close()
        parts = [part for piece in said for part in self._read_calls(piece)]
        return self._told(parts + ([] if self._calls is None else self._calls.close()))

    def _read_calls(self, piece: Said) -> list[Said]:
        if piece.part == "text" and self._calls is not None:
            return self._calls.feed(piece.text)
        return [piece]

    def _told(self, said: list[Said]) -> list[Said]:
        told: list[Said] = []
        for part, text in said:
            self._num_calls += part == "call"
            is_surplus = self._num_calls > 1 and not self._reading.several_calls
            if is_surplus and part in ("call", "arguments"):
                continue
            shown = without_marks(text)
            if part == "reasoning" and not self._reading.reasoning:
                part = "text"
            if shown:
                told.append(Said(part, shown))
        return told


def _call_reader(family: str, schemas: Mapping[str, Mapping[str, Any]]) -> _Reader | None:
    match family:
        case "hermes":
            return HermesReader(schemas)
        case "llama":
            return LlamaReader(schemas)
        case "mistral":
            return MistralReader()
        case "gemma":
            return GemmaReader()
        case _:
            return None


def _schemas(tools: bytes) -> dict[str, Mapping[str, Any]]:
    """The schemas of the parameters of every tool."""
    offered = msgspec.json.decode(tools, type=list[dict[str, Any]]) if tools else []
    functions = [tool["function"] for tool in offered]
    return {function["name"]: function.get("parameters") or {} for function in functions}
