"""What Qwen writes is read as transformers reads it, which has its form from Qwen's makers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.api.answers.spoken_answer import spoken
from edge_agent.generation.generation import TextPiece
from edge_agent.output_parsing.output_parser import OutputParser, OutputReading
from shared.protocol.messages import OutputFormat

serving: Any = pytest.importorskip("transformers.cli.serving.utils")
chat_parsing: Any = pytest.importorskip("transformers.utils.chat_parsing")

TEMPLATES: Any = getattr(serving, "_RESPONSE_TEMPLATE_FALLBACKS", {})
WORDS = st.text("ab <{\n:", min_size=1, max_size=12).map(lambda words: f"A{words}z")
CALLS = st.tuples(
    st.sampled_from(["add", "look_up"]),
    st.dictionaries(st.text("ab", min_size=1), st.text(max_size=9) | st.integers()),
)


@pytest.mark.skipif(not TEMPLATES, reason="this transformers has no forms of its own")
@given(st.none() | WORDS, WORDS, st.lists(CALLS, max_size=3))
def test_qwens_answers_are_read_alike(
    thought: str | None, text: str, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    said = "" if thought is None else f"<think>\n{thought}\n</think>\n\n"
    said += text
    for name, arguments in calls:
        call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
        said += f"\n<tool_call>\n{call}\n</tool_call>"
    template = next(value for models, value in TEMPLATES.items() if "qwen3" in models)
    expected = chat_parsing.parse_response(said, template, prefix="")
    reading = OutputReading(calls=True, reasoning=True)
    parser = OutputParser(OutputFormat("hermes", "think"), reading)
    pieces = [*parser.feed(said), *parser.close()]
    answer = spoken(TextPiece(piece.text, "target", part=piece.part) for piece in pieces)
    assert expected["content"].strip() == answer.text.strip()
    assert expected.get("reasoning_content", "").strip() == answer.reasoning
    told = [call["function"] for call in expected.get("tool_calls", [])]
    assert told == [{"name": call.name, "arguments": call.as_object} for call in answer.calls]
